//! Faults on demand: throttling and other errors, slow answers, cut connections, calls held until released, and content
//! that arrives changed or in part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use fakecloud_core::service::AwsServiceError;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::answer::refusal;
use crate::serve::Cut;

/// When a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// Instead of carrying the call out.
    #[default]
    Before,
    /// The call is carried out, its answer is not given.
    After,
}

/// A fault as it is asked for, and listed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    /// As counted in `GET /calls`; a trailing `*` matches any rest, `ecr:*` all of ECR's.
    operation: String,
    account: Option<String>,
    region: Option<String>,
    /// A part of the ARN of who calls. Not on the data plane, where callers have no ARN.
    principal: Option<String>,
    /// The error to answer with.
    code: Option<String>,
    message: Option<String>,
    status: Option<u16>,
    /// How often it strikes; for ever if missing.
    times: Option<u64>,
    /// Which share of the matching calls it strikes, spread evenly.
    share: Option<f64>,
    /// Only the nth matching call is struck.
    nth: Option<u64>,
    #[serde(default)]
    when: When,
    latency_millis: Option<u64>,
    #[serde(default)]
    disconnect: bool,
    #[serde(default)]
    hold: bool,
    /// One bit of the answer's content is another one. Data plane only.
    #[serde(default)]
    corrupt: bool,
    /// The connection is cut after so many bytes of the answer's content. Data plane only.
    cut_after: Option<usize>,
}

/// What `GET /faults` tells about a fault.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    id: String,
    #[serde(flatten)]
    rule: Rule,
    matched: u64,
    injected: u64,
    held: u64,
}

struct Fault {
    rule: Rule,
    matched: u64,
    injected: u64,
    /// The part of a strike that `share` has saved up.
    credit: f64,
    held: Arc<AtomicU64>,
    /// Set once the fault no longer holds anything back: released or removed.
    released: watch::Sender<bool>,
}

/// The faults that are set.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Set>);

#[derive(Default)]
struct Set {
    last: u64,
    faults: BTreeMap<String, Fault>,
}

/// A call that faults may strike.
pub(crate) struct Struck<'call> {
    /// As it is counted.
    pub(crate) operation: &'call str,
    pub(crate) account: &'call str,
    pub(crate) region: &'call str,
    /// The ARN of who calls. Nobody on the data plane and with unknown keys.
    pub(crate) principal: Option<&'call str>,
}

/// One fault that strikes the call at hand.
pub(crate) struct Strike {
    rule: Rule,
    held: Arc<AtomicU64>,
    released: watch::Receiver<bool>,
}

impl Faults {
    /// Sets a fault and gives its id; the text says what is wrong with it otherwise.
    pub(crate) fn add(&self, rule: Rule) -> Result<String, String> {
        let spoils = rule.corrupt || rule.cut_after.is_some();
        if rule.code.is_none() && rule.latency_millis.is_none() && !rule.disconnect && !rule.hold && !spoils {
            return Err("a fault needs a code, latencyMillis, disconnect, hold, corrupt or cutAfter".to_owned());
        }
        if spoils && !rule.operation.starts_with("oci:") {
            return Err("corrupt and cutAfter are for operations of the data plane (oci:...)".to_owned());
        }
        if rule.principal.is_some() && rule.operation.starts_with("oci:") {
            return Err("principal is for signed calls, not for operations of the data plane (oci:...)".to_owned());
        }
        if rule.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err("share is a number from 0 to 1".to_owned());
        }
        if rule.status.is_some_and(|status| !(400..600).contains(&status)) {
            return Err("status is a 4xx or 5xx".to_owned());
        }
        let mut set = self.0.lock();
        set.last += 1;
        let id = format!("fault-{}", set.last);
        let fault = Fault {
            rule,
            matched: 0,
            injected: 0,
            credit: 0.0,
            held: Arc::default(),
            released: watch::Sender::new(false),
        };
        set.faults.insert(id.clone(), fault);
        Ok(id)
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        let set = self.0.lock();
        let listed = |(id, fault): (&String, &Fault)| Listed {
            id: id.clone(),
            rule: fault.rule.clone(),
            matched: fault.matched,
            injected: fault.injected,
            held: fault.held.load(Ordering::SeqCst),
        };
        set.faults.iter().map(listed).collect()
    }

    /// Lets go whatever the fault holds, now and from now on.
    pub(crate) fn release(&self, id: &str) -> bool {
        self.0
            .lock()
            .faults
            .get(id)
            .map(|fault| fault.released.send_replace(true))
            .is_some()
    }

    /// Removes one fault, or all; held calls go on.
    pub(crate) fn remove(&self, id: Option<&str>) -> bool {
        let mut set = self.0.lock();
        let removed = match id {
            Some(id) => set.faults.remove(id).into_iter().collect(),
            None => std::mem::take(&mut set.faults).into_values().collect::<Vec<_>>(),
        };
        for fault in &removed {
            fault.released.send_replace(true);
        }
        id.is_none() || !removed.is_empty()
    }

    /// The faults that strike this call.
    pub(crate) fn strikes(&self, call: &Struck<'_>) -> Vec<Strike> {
        let mut set = self.0.lock();
        set.faults.values_mut().filter_map(|fault| fault.strike(call)).collect()
    }
}

impl Fault {
    fn strike(&mut self, call: &Struck<'_>) -> Option<Strike> {
        if !self.rule.matches(call) || self.rule.times.is_some_and(|t| self.injected >= t) {
            return None;
        }
        self.matched += 1;
        if self.rule.nth.is_some_and(|nth| nth != self.matched) {
            return None;
        }
        if let Some(share) = self.rule.share {
            self.credit += share;
            // Not 1.0: sums of a share like 0.1 stay a hair below it.
            if self.credit < 1.0 - 1e-9 {
                return None;
            }
            self.credit -= 1.0;
        }
        self.injected += 1;
        Some(Strike {
            rule: self.rule.clone(),
            held: Arc::clone(&self.held),
            released: self.released.subscribe(),
        })
    }
}

impl Rule {
    fn matches(&self, call: &Struck<'_>) -> bool {
        let &Struck {
            operation,
            account,
            region,
            principal,
        } = call;
        let named = match self.operation.strip_suffix('*') {
            Some("ecr:") => !operation.contains(':'),
            Some(start) => operation.starts_with(start),
            None => self.operation == operation,
        };
        named
            && self.account.as_deref().is_none_or(|wanted| wanted == account)
            && self.region.as_deref().is_none_or(|wanted| wanted == region)
            && self
                .principal
                .as_deref()
                .is_none_or(|part| principal.is_some_and(|principal| principal.contains(part)))
    }
}

/// Counts a call as held, also when its client gives up and the call is dropped.
struct Held(Arc<AtomicU64>);

impl Held {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Applies those of `strikes` that strike at this point: an error to answer with, or a connection to cut.
pub(crate) async fn suffer(strikes: &[Strike], when: When) -> Result<Option<AwsServiceError>, Cut> {
    let mut error = None;
    for strike in strikes.iter().filter(|strike| strike.rule.when == when) {
        let rule = &strike.rule;
        if rule.hold {
            let _held = Held::new(&strike.held);
            // An error means that the fault is gone, which releases as well.
            let _ = strike.released.clone().wait_for(|released| *released).await;
        }
        if let Some(millis) = rule.latency_millis {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if rule.disconnect {
            return Err(Cut);
        }
        if let Some(code) = &rule.code {
            let message = rule.message.clone().unwrap_or_else(|| default_message(code).to_owned());
            error.get_or_insert(refusal(rule.status.unwrap_or(400), code, message));
        }
    }
    Ok(error)
}

/// Spoils the content of an answer of the data plane.
pub(crate) fn spoil(strikes: &[Strike], content: Bytes) -> Body {
    let mut content = content;
    if strikes.iter().any(|strike| strike.rule.corrupt)
        && let Some(middle) = content.len().checked_div(2)
    {
        let mut changed = content.to_vec();
        if let Some(byte) = changed.get_mut(middle) {
            *byte ^= 1;
        }
        content = Bytes::from(changed);
    }
    let Some(after) = strikes.iter().filter_map(|strike| strike.rule.cut_after).min() else {
        return Body::from(content);
    };
    let part = content.slice(..after.min(content.len()));
    // The error makes hyper cut the connection; the length announced is that of the whole. What is to arrive has to be
    // written out before, which hyper does while the next piece is waited for.
    let cut = stream::once(async {
        tokio::task::yield_now().await;
        Err(Cut)
    });
    Body::from_stream(stream::once(async { Ok(part) }).chain(cut))
}

fn default_message(code: &str) -> &'static str {
    match code {
        "ThrottlingException" => "Rate exceeded",
        _ => "Injected fault",
    }
}
