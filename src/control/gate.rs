//! The one gate that every write passes, to AWS and to Kubernetes: open only while this process surely leads.
//!
//! ECR and Kubernetes have no fencing: nothing on their side refuses the write of a former leader. So the gate closes
//! before anybody else may lead, and a call that is under way then is given up when it next wakes.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::Method;
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Closed until it is opened. Cheap to clone; all clones are one gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// What the moments below are counted from. `Instant` is monotonic: a clock that is set changes nothing.
    start: Instant,
    /// Nanoseconds from `start` to the moment at which the gate closes; 0 is closed.
    open_until: Arc<AtomicU64>,
}

/// A write was held back because this process does not lead, or does not surely lead any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process does not lead, so nothing is written; whoever leads goes on with it")]
pub(crate) struct Closed;

impl Gate {
    pub(crate) fn closed() -> Self {
        Self {
            start: Instant::now(),
            open_until: Arc::default(),
        }
    }

    /// Open for good: for a command that a person runs, beside whoever leads.
    pub(crate) fn open() -> Self {
        Self {
            start: Instant::now(),
            open_until: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// Opens it, or keeps it open, until a moment.
    pub(crate) fn open_until(&self, moment: Instant) {
        let open = moment.saturating_duration_since(self.start).as_nanos();
        self.open_until
            .store(u64::try_from(open).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.open_until.store(0, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.start.elapsed() < Duration::from_nanos(self.open_until.load(Ordering::SeqCst))
    }

    /// Lets a write go on only while the gate is open, its retries and the pauses between them included. It is looked at
    /// each time the write could make progress: a process that was stopped for long finds it closed when it wakes.
    pub(crate) async fn guard<F: Future>(&self, write: F) -> Result<F::Output, Closed> {
        let mut write = pin!(write);
        poll_fn(|cx| match self.is_open() {
            true => write.as_mut().poll(cx).map(Ok),
            false => Poll::Ready(Err(Closed)),
        })
        .await
    }
}

/// Makes a Kubernetes client pass the gate: reads always, writes while it is open.
impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            inner,
            gate: self.clone(),
        }
    }
}

/// A Kubernetes client's service behind the gate.
#[derive(Clone, Debug)]
pub(crate) struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S, R> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = R, Error = BoxError>,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    type Response = R;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads {
            return Box::pin(self.inner.call(request));
        }
        if !self.gate.is_open() {
            return Box::pin(std::future::ready(Err(Closed.into())));
        }
        let (gate, write) = (self.gate.clone(), self.inner.call(request));
        Box::pin(async move { gate.guard(write).await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_goes_through_while_the_gate_is_open_and_not_after() {
        let gate = Gate::closed();
        assert_eq!(gate.guard(async { 1 }).await, Err(Closed));
        gate.open_until(Instant::now() + Duration::from_mins(1));
        assert_eq!(gate.guard(async { 1 }).await, Ok(1));
        gate.close();
        assert_eq!(gate.guard(async { 1 }).await, Err(Closed));
    }

    #[tokio::test]
    async fn a_write_that_waits_is_given_up_when_it_wakes_behind_a_closed_gate() {
        let gate = Gate::closed();
        gate.open_until(Instant::now() + Duration::from_mins(1));
        let closing = gate.clone();
        let outcome = gate
            .guard(async {
                closing.close();
                tokio::task::yield_now().await;
                unreachable!("the gate closed while the write waited")
            })
            .await;
        assert_eq!(outcome, Err(Closed));
    }

    #[test]
    fn the_gate_of_a_command_is_open() {
        assert!(Gate::open().is_open());
    }

    #[test]
    fn a_moment_that_has_passed_does_not_open_it() {
        let gate = Gate::closed();
        gate.open_until(Instant::now());
        assert!(!gate.is_open());
    }
}
