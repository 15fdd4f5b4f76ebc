//! A gateway in front of an apiserver, for one client: it counts the client's writes and keeps an answer back, or loses
//! it, after the apiserver has carried the write out.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Cluster;
use bed_programs as wait;

/// The gateway. Cheap to clone; it serves until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    strikes: Mutex<Strikes>,
    /// Counts the releases: what is held waits for the next one, whatever is struck after it.
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Strikes {
    writes: Vec<Write>,
    plan: Option<Strike>,
    held: usize,
}

/// What happens to which write's answer.
#[derive(Debug, Clone, Copy)]
enum Strike {
    Hold { nth: usize },
    Lose { nth: usize, times: usize },
}

/// A write that the apiserver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.method, self.path, self.status)
    }
}

impl Cluster {
    /// Starts a gateway whose requests have the rights of a `ServiceAccount`, whoever sends them. It belongs to the async
    /// runtime that it is made in.
    pub async fn gateway(&self, namespace: &str, name: &str) -> Result<Gateway> {
        let client = self.service_account_client(namespace, name).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.bed().free_port()?)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State {
            strikes: Mutex::default(),
            releases: watch::Sender::new(0),
        });
        let serving = tokio::spawn(serve(listener, client, Arc::clone(&state)));
        Ok(Gateway(Arc::new(Inner { url, state, serving })))
    }
}

impl Gateway {
    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The writes that were carried out since the last [`reset`](Self::reset), in order. Leases and Events are left out
    /// here and are never struck: they come and go by themselves.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.0.state.lock().writes.clone()
    }

    /// Counts from zero again, strikes nothing any more, and lets go what is held.
    pub fn reset(&self) {
        *self.0.state.lock() = Strikes::default();
        self.release();
    }

    /// Keeps the answer to the nth write back, counted from 1 and from now.
    pub fn hold_after(&self, nth: usize) {
        self.strike(Strike::Hold { nth });
    }

    /// Cuts the connection instead of answering, for so many writes from the nth on, counted from 1 and from now.
    pub fn lose_answers(&self, nth: usize, times: usize) {
        self.strike(Strike::Lose { nth, times });
    }

    fn strike(&self, strike: Strike) {
        self.reset();
        self.0.state.lock().plan = Some(strike);
    }

    /// Waits until an answer is kept back.
    pub async fn held(&self, limit: Duration) -> Result<()> {
        wait::eventually(limit, "an answer to be kept back", async || {
            let strikes = self.0.state.lock();
            match strikes.held {
                0 => Err(anyhow!("none of {:?}", strikes.writes)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Gives the answer that is kept back.
    pub fn release(&self) {
        self.0.state.releases.send_modify(|count| *count += 1);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Strikes> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a write that was carried out, and what is to become of its answer.
    fn note(&self, write: Write) -> Option<Strike> {
        let mut strikes = self.lock();
        strikes.writes.push(write);
        let count = strikes.writes.len();
        let plan = strikes.plan?;
        let struck = match plan {
            Strike::Hold { nth } => count == nth,
            Strike::Lose { nth, times } => (nth..nth + times).contains(&count),
        };
        if struck && matches!(plan, Strike::Hold { .. }) {
            strikes.held += 1;
        }
        struck.then_some(plan)
    }
}

async fn serve(listener: TcpListener, client: Client, state: Arc<State>) {
    // Dropped with this task, and with them their connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, client.clone(), Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, client: Client, state: Arc<State>) {
    let service = service_fn(|request| forward(request, client.clone(), Arc::clone(&state)));
    // Ends with an error where an answer is lost on purpose: only a service that fails cuts its connection.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn forward(request: Request<Incoming>, client: Client, state: Arc<State>) -> Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.context("the client's request")?.to_bytes();
    // The client's own are those of this gateway.
    head.headers.remove(AUTHORIZATION);
    head.headers.remove(HOST);
    let path = head.uri.path().to_owned();
    let reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let own_rhythm = ["/apis/coordination.k8s.io/", "/apis/events.k8s.io/"];
    let counts = !reads && !own_rhythm.iter().any(|group| path.starts_with(group));
    let method = head.method.to_string();
    let answer = client
        .send(Request::from_parts(head, Body::from(body.to_vec())))
        .await?;
    if counts {
        let status = answer.status().as_u16();
        // Before the write is noted: who sees it held may release it at once.
        let mut releases = state.releases.subscribe();
        let before = *releases.borrow_and_update();
        match state.note(Write { method, path, status }) {
            Some(Strike::Hold { .. }) => {
                // The sender lives as long as `state`.
                let _ = releases.wait_for(|count| *count > before).await;
            }
            Some(Strike::Lose { .. }) => return Err(anyhow!("the answer is lost on purpose")),
            None => {}
        }
    }
    Ok(answer)
}

/// A kubeconfig that leads to a gateway.
pub(crate) fn kubeconfig(url: &str, namespace: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gateway", "cluster": {"server": url}}],
        "users": [{"name": "gateway", "user": {}}],
        "contexts": [{"name": "gateway", "context": {"cluster": "gateway", "user": "gateway", "namespace": namespace}}],
        "current-context": "gateway",
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(plan: Strike) -> State {
        State {
            strikes: Mutex::new(Strikes {
                plan: Some(plan),
                ..Strikes::default()
            }),
            releases: watch::Sender::new(0),
        }
    }

    fn write() -> Write {
        Write {
            method: "PATCH".into(),
            path: "/x".into(),
            status: 200,
        }
    }

    #[test]
    fn the_nth_write_is_held_and_so_many_from_the_nth_on_are_lost() {
        let holds = state(Strike::Hold { nth: 2 });
        let held: Vec<bool> = (0..3).map(|_| holds.note(write()).is_some()).collect();
        assert_eq!(held, [false, true, false]);
        let loses = state(Strike::Lose { nth: 2, times: 2 });
        let lost: Vec<bool> = (0..4).map(|_| loses.note(write()).is_some()).collect();
        assert_eq!(lost, [false, true, true, false]);
    }
}
