//! Leadership by a Lease: of all replicas in a cluster one writes.
//!
//! A loop of our own: kube-lease-manager 0.13.1 told the holder for 45 s of a 15 s lease that it leads while the apiserver
//! was frozen, and its hand-over took 13 s.
//!
//! The leader renews at a third of the lease's duration. Its [`Gate`] closes a fifth before the end, counted from the
//! moment at which the renewal was *sent*; whoever stands by waits for the full duration, counted from the moment at which
//! it *saw* the renewal. Both count on their own monotonic clock, so clocks need not agree.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};

use super::gate::Gate;

/// The name of the Lease, in the operator's namespace; also what the program says it waits for.
pub(crate) const LEASE: &str = "ecr-operator";

/// How long handing the Lease over may take; after it the next leader waits until it has run out.
const HAND_OVER: Duration = Duration::from_secs(2);

/// A process that leads or would like to.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    duration: Duration,
    gate: Gate,
}

/// The Lease as it was last seen.
struct Seen {
    lease: Option<Lease>,
    /// It was deleted since. Whoever held it may not know yet, so it counts for as long as if it had just been renewed.
    gone: bool,
    /// When it last changed before our eyes.
    since: Instant,
}

/// What a candidate does next.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// Nobody holds it: take it.
    Take,
    /// Somebody does; if nothing happens, look again then.
    Wait(Instant),
}

impl Seen {
    fn holder(&self) -> Option<&str> {
        let holder = self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    /// Another holder's lease counts for as long as that holder says, or else as ours would, from when it was seen to be
    /// renewed.
    fn next(&self, candidate: &str, duration: Duration, now: Instant) -> Move {
        let seconds = self
            .lease
            .as_ref()
            .and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0);
        match self.holder() {
            Some(holder) if holder != candidate => {
                let end = self.since + seconds.map_or(duration, Duration::from_secs);
                if now >= end { Move::Take } else { Move::Wait(end) }
            }
            _ => Move::Take,
        }
    }

    /// Takes over what a watch or a read shows. One that shows the same again proves no renewal.
    fn update(&mut self, lease: Option<Lease>) {
        let Some(lease) = lease else {
            if !self.gone {
                self.gone = true;
                self.since = Instant::now();
            }
            return;
        };
        self.gone = false;
        let lease = Some(lease);
        let version = |lease: &Option<Lease>| lease.as_ref().map(|lease| (lease.uid(), lease.resource_version()));
        if version(&lease) != version(&self.lease) {
            self.since = Instant::now();
        }
        self.lease = lease;
    }
}

impl Candidate {
    /// `client` must not pass the gate: renewing is what opens it. `name` is this process's alone, or that of its pod: what
    /// runs in a pod is over when it is started there again, so it need not wait for its own lease to run out.
    pub(crate) fn new(client: Client, name: String, duration: Duration, gate: Gate) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self {
            api: Api::namespaced(client, &namespace),
            name,
            duration,
            gate,
        }
    }

    /// Waits until it leads; `standing_by` is called when another is seen to.
    pub(crate) async fn wait_for_lead(self, standing_by: impl Fn()) -> Leader {
        let mut changes = pin!(watcher::watch_object(self.api.clone(), LEASE).default_backoff());
        let lease = self.first(changes.as_mut()).await;
        let mut known = Seen {
            gone: lease.is_none(),
            lease,
            since: Instant::now(),
        };
        let mut told = None;
        loop {
            match known.next(&self.name, self.duration, Instant::now()) {
                Move::Take => match self.take(known.lease.as_ref().filter(|_| !known.gone)).await {
                    Ok(lease) => {
                        tracing::info!(holder = self.name, "leading");
                        return Leader { candidate: self, lease };
                    }
                    Err(error) => {
                        if error.is_conflict() {
                            tracing::debug!(%error, "somebody else took the Lease");
                        } else {
                            tracing::warn!(%error, "the Lease could not be taken and is tried again");
                        }
                        tokio::time::sleep(self.duration / 10).await;
                        if let Ok(lease) = self.read().await {
                            known.update(lease);
                        }
                    }
                },
                Move::Wait(end) => {
                    let holder = known.holder().map(str::to_owned);
                    if told != holder {
                        tracing::info!(holder = holder.as_deref().unwrap_or_default(), "standing by");
                        told = holder;
                        standing_by();
                    }
                    tokio::select! {
                        change = changes.next() => match change {
                            Some(Ok(lease)) => known.update(lease),
                            Some(Err(error)) => tracing::warn!(%error, "the watch on the Lease failed and is tried again"),
                            None => tokio::time::sleep(self.duration / 10).await,
                        },
                        () = tokio::time::sleep_until(end.into()) => {}
                    }
                }
            }
        }
    }

    async fn first(&self, mut changes: impl Stream<Item = watcher::Result<Option<Lease>>> + Unpin) -> Option<Lease> {
        loop {
            // A connection that was lost without a word would be waited on for ever.
            match tokio::time::timeout(self.duration, changes.next()).await {
                Err(_) => {
                    if let Ok(lease) = self.read().await {
                        return lease;
                    }
                }
                Ok(Some(Ok(lease))) => return lease,
                Ok(Some(Err(error))) => tracing::warn!(
                    %error,
                    "the Lease {LEASE} could not be read and is tried again; the ServiceAccount needs get, list, watch, \
                     create and update on leases in the operator's namespace"
                ),
                Ok(None) => tokio::time::sleep(self.duration / 10).await,
            }
        }
    }

    /// Takes the Lease, or creates it. Fails where somebody else was faster.
    async fn take(&self, seen: Option<&Lease>) -> Result<Lease, Failure> {
        let now = MicroTime(Timestamp::now());
        let mut lease = seen.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.into()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let before = lease.spec.take().unwrap_or_default();
        let changes = before.holder_identity.as_deref() != Some(&self.name);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_duration_seconds: Some(self.seconds()),
            lease_transitions: Some(
                before.lease_transitions.unwrap_or_default() + i32::from(changes && seen.is_some()),
            ),
            ..before
        });
        self.write(&lease, seen.is_none()).await
    }

    /// Writes our Lease; the resourceVersion in it makes that a compare-and-swap. Opens the gate, counted from before the
    /// write was sent.
    async fn write(&self, lease: &Lease, create: bool) -> Result<Lease, Failure> {
        let sent = Instant::now();
        let params = PostParams::default();
        let written = async {
            match create {
                true => self.api.create(&params, lease).await,
                false => self.api.replace(LEASE, &params, lease).await,
            }
        };
        let written = within(self.duration / 3, written).await?;
        self.gate.open_until(sent + self.duration.mul_f64(0.8));
        Ok(written)
    }

    async fn read(&self) -> Result<Option<Lease>, Failure> {
        within(self.duration / 3, self.api.get_opt(LEASE)).await
    }

    fn holds(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.name))
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }
}

/// The process that leads.
pub(crate) struct Leader {
    candidate: Candidate,
    lease: Lease,
}

/// Why a Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl Failure {
    /// Somebody else wrote or created it first.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.code == 409)
    }
}

impl Leader {
    /// Renews the Lease for as long as it can, and returns why it cannot any more. By then the gate is closed.
    pub(crate) async fn keep(&mut self) -> String {
        let Candidate { gate, duration, .. } = &self.candidate;
        let (gate, duration) = (gate.clone(), *duration);
        let mut pause = duration / 3;
        loop {
            tokio::time::sleep(pause).await;
            if !gate.is_open() {
                return "the Lease was not renewed in time".into();
            }
            match self.renew().await {
                Ok(true) => pause = duration / 3,
                Ok(false) => {
                    gate.close();
                    return "the Lease is somebody else's, or gone".into();
                }
                Err(error) => {
                    tracing::warn!(%error, "the Lease could not be renewed and is tried again");
                    pause = duration / 15;
                }
            }
        }
    }

    /// False where somebody else holds it, or nobody.
    async fn renew(&mut self) -> Result<bool, Failure> {
        let seconds = self.candidate.seconds();
        let renewed = |lease: &Lease| {
            let mut lease = lease.clone();
            if let Some(spec) = &mut lease.spec {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                // Somebody may have edited it, and others wait for as long as it says.
                spec.lease_duration_seconds = Some(seconds);
            }
            lease
        };
        match self.candidate.write(&renewed(&self.lease), false).await {
            // An answer of ours may have been lost, or somebody put a label on it: read who holds it.
            Err(Failure::Kube(kube::Error::Api(status))) if status.is_conflict() => {
                match self.candidate.read().await? {
                    Some(lease) if self.candidate.holds(&lease) => {
                        self.lease = self.candidate.write(&renewed(&lease), false).await?;
                        Ok(true)
                    }
                    _ => Ok(false),
                }
            }
            Err(Failure::Kube(kube::Error::Api(status))) if status.is_not_found() => Ok(false),
            other => {
                self.lease = other?;
                Ok(true)
            }
        }
    }

    /// Keeps the Lease from being renewed and lets it run out: a write that was cut off may still be on its way.
    pub(crate) fn let_run_out(self) {
        self.candidate.gate.close();
    }

    /// Gives the Lease up, so that whoever stands by takes it at once. Nothing is written after it.
    pub(crate) async fn hand_over(self) {
        self.candidate.gate.close();
        let free = async {
            loop {
                // What we know may be old: a renewal that was under way may have been carried out.
                let Some(mut lease) = self.candidate.read().await? else {
                    return Ok(());
                };
                if !self.candidate.holds(&lease) {
                    return Ok(());
                }
                lease.spec.get_or_insert_default().holder_identity = None;
                let freed = self.candidate.api.replace(LEASE, &PostParams::default(), &lease).await;
                match freed.map_err(Failure::from) {
                    Err(error) if error.is_conflict() => {}
                    other => return other.map(drop),
                }
            }
        };
        match tokio::time::timeout(HAND_OVER, free).await {
            Ok(Ok(())) => tracing::info!("the Lease is free"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be handed over; it runs out by itself"),
            Err(_) => tracing::warn!("the Lease could not be handed over in time; it runs out by itself"),
        }
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Late(limit)),
    }
}

/// The name of this process among the candidates: its pod's, or one that no other process has.
pub(crate) fn name() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| format!("{}-{:016x}", std::process::id(), fastrand::u64(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, seconds: i32, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(seconds),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seen(lease: Option<Lease>, since: Instant) -> Seen {
        Seen {
            lease,
            gone: false,
            since,
        }
    }

    #[test]
    fn a_lease_of_nobody_or_of_ourselves_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(seen(None, now).next("a", Duration::from_secs(15), now), Move::Take);
        assert_eq!(
            seen(Some(lease("", 15, "1")), now).next("a", Duration::from_secs(15), now),
            Move::Take
        );
        assert_eq!(
            seen(Some(lease("a", 15, "1")), now).next("a", Duration::from_secs(15), now),
            Move::Take
        );
    }

    #[test]
    fn anothers_lease_is_waited_out_from_when_it_was_seen() {
        let now = Instant::now();
        let seen = seen(Some(lease("b", 15, "1")), now);
        let end = now + Duration::from_secs(15);
        assert_eq!(seen.next("a", Duration::from_secs(15), now), Move::Wait(end));
        assert_eq!(
            seen.next("a", Duration::from_secs(15), now + Duration::from_millis(14_999)),
            Move::Wait(end)
        );
        assert_eq!(seen.next("a", Duration::from_secs(15), end), Move::Take);
    }

    #[test]
    fn a_lease_that_vanished_is_waited_out_too() {
        let before = Instant::now().checked_sub(Duration::from_secs(14)).unwrap();
        let mut known = seen(Some(lease("b", 15, "1")), before);
        known.update(None);
        let end = known.since + Duration::from_secs(15);
        assert!(known.since > before);
        assert_eq!(known.next("a", Duration::from_secs(15), known.since), Move::Wait(end));
        known.update(None);
        assert_eq!(known.next("a", Duration::from_secs(15), end), Move::Take);
    }

    #[test]
    fn a_lease_without_a_valid_duration_counts_as_long_as_ours() {
        let now = Instant::now();
        let end = now + Duration::from_secs(15);
        for seconds in [0, -1] {
            let known = seen(Some(lease("b", seconds, "1")), now);
            assert_eq!(known.next("a", Duration::from_secs(15), now), Move::Wait(end));
        }
    }

    #[test]
    fn only_a_change_counts_as_a_renewal() {
        let before = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let mut known = seen(Some(lease("b", 15, "1")), before);
        known.update(Some(lease("b", 15, "1")));
        assert_eq!(known.since, before, "a watch that starts anew shows what is there");
        known.update(Some(lease("b", 15, "2")));
        assert!(known.since > before);
    }
}
