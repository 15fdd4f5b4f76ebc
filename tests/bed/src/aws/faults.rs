//! Faults on demand.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Aws, millis};
use bed_programs as wait;

/// Whether a call is carried out before its fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// It is not.
    Before,
    /// It is; only its answer is lost.
    After,
}

/// What a fault does to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An error answer.
    Error {
        /// HTTP status, 4xx or 5xx.
        status: u16,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// A late answer.
    Latency(Duration),
    /// The connection is cut without an answer.
    Disconnect,
    /// The call waits until [`Aws::release`].
    Hold,
    /// One bit of the content is another one. For the data plane.
    Corrupt,
    /// The connection is cut after so many bytes of the content. For the data plane.
    CutAfter(usize),
}

/// A fault. Made by one of the constructors, which strike every matching call of every registry before it is carried out,
/// and narrowed by the methods.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: String,
    effect: Effect,
    moment: Moment,
    registry: Option<(String, String)>,
    principal: Option<String>,
    times: Option<u64>,
    share: Option<f64>,
    nth: Option<u64>,
}

impl Fault {
    /// `operation` is named as in [`Calls::operations`](super::Calls::operations) or
    /// [`Calls::data_plane`](super::Calls::data_plane); a trailing `*` stands for any rest, and `ecr:*` for all of ECR.
    #[must_use]
    pub fn new(operation: &str, effect: Effect) -> Self {
        let operation = operation.to_owned();
        Self {
            operation,
            effect,
            moment: Moment::Before,
            registry: None,
            principal: None,
            times: None,
            share: None,
            nth: None,
        }
    }

    /// Throttling, as ECR words it.
    #[must_use]
    pub fn throttling(operation: &str) -> Self {
        Self::error(operation, 400, "ThrottlingException", "Rate exceeded")
    }

    /// An error of the service.
    #[must_use]
    pub fn server_error(operation: &str) -> Self {
        Self::error(operation, 500, "ServerException", "The service is unavailable")
    }

    /// Any error.
    #[must_use]
    pub fn error(operation: &str, status: u16, code: &str, message: &str) -> Self {
        Self::new(
            operation,
            Effect::Error {
                status,
                code: code.to_owned(),
                message: message.to_owned(),
            },
        )
    }

    /// Strikes after the call was carried out.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    /// Strikes calls to this registry only.
    #[must_use]
    pub fn registry(mut self, account: &str, region: &str) -> Self {
        self.registry = Some((account.to_owned(), region.to_owned()));
        self
    }

    /// Strikes signed calls of those only whose ARN contains this.
    #[must_use]
    pub fn principal(mut self, part: &str) -> Self {
        self.principal = Some(part.to_owned());
        self
    }

    /// Strikes so many calls and then no more. An SDK that retries needs as many as its attempts to see an error.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Strikes this share (0 to 1) of the calls, evenly spread.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    /// Strikes the nth matching call only, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = Some(nth);
        self
    }

    /// As the control endpoint takes it, which refuses unknown members and takes missing ones as "any".
    fn body(&self) -> Value {
        let mut body = Map::from_iter([
            ("operation".to_owned(), json!(self.operation)),
            ("when".to_owned(), json!(self.moment)),
        ]);
        let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        match &self.effect {
            Effect::Error { status, code, message } => {
                set("status", json!(status));
                set("code", json!(code));
                set("message", json!(message));
            }
            Effect::Latency(latency) => set("latencyMillis", json!(millis(*latency))),
            Effect::Disconnect => set("disconnect", json!(true)),
            Effect::Hold => set("hold", json!(true)),
            Effect::Corrupt => set("corrupt", json!(true)),
            Effect::CutAfter(bytes) => set("cutAfter", json!(bytes)),
        }
        if let Some((account, region)) = &self.registry {
            set("account", json!(account));
            set("region", json!(region));
        }
        if let Some(principal) = &self.principal {
            set("principal", json!(principal));
        }
        if let Some(times) = self.times {
            set("times", json!(times));
        }
        if let Some(share) = self.share {
            set("share", json!(share));
        }
        if let Some(nth) = self.nth {
            set("nth", json!(nth));
        }
        Value::Object(body)
    }
}

/// What became of a fault so far.
#[derive(Debug, Clone, Deserialize)]
pub struct FaultState {
    /// As given by [`Aws::inject`].
    pub id: String,
    /// How many calls it was for.
    pub matched: u64,
    /// How many it struck.
    pub injected: u64,
    /// How many it holds at this moment.
    pub held: u64,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Aws {
    /// Sets a fault; it strikes from now on, together with those set before. Gives its id.
    pub async fn inject(&self, fault: &Fault) -> Result<String> {
        let id: Id = self.ask(Method::POST, "faults", &[], Some(&fault.body())).await?;
        Ok(id.id)
    }

    /// What became of a fault.
    pub async fn fault(&self, id: &str) -> Result<FaultState> {
        let faults: Vec<FaultState> = self.ask(Method::GET, "faults", &[], None).await?;
        faults
            .into_iter()
            .find(|fault| fault.id == id)
            .with_context(|| format!("the stand-in has no fault {id}"))
    }

    /// Waits until the fault holds a call, for at most `limit`.
    pub async fn held(&self, id: &str, limit: Duration) -> Result<()> {
        wait::eventually(limit, "a call to be held", async || match self.fault(id).await?.held {
            0 => Err(anyhow!("none held")),
            _ => Ok(()),
        })
        .await
    }

    /// Lets go what the fault holds, now and from now on.
    pub async fn release(&self, id: &str) -> Result<()> {
        self.tell(Method::POST, &format!("faults/{id}/release"), &json!({}))
            .await
    }

    /// Removes one fault; calls held by it go on.
    pub async fn remove_fault(&self, id: &str) -> Result<()> {
        self.tell(Method::DELETE, &format!("faults/{id}"), &json!({})).await
    }

    /// Removes all faults; held calls go on.
    pub async fn remove_faults(&self) -> Result<()> {
        self.tell(Method::DELETE, "faults", &json!({})).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_only_what_was_set() {
        let fault = Fault::new("PutImage", Effect::Disconnect).after().nth(2);
        let body = json!({"operation": "PutImage", "when": "after", "disconnect": true, "nth": 2});
        assert_eq!(fault.body(), body);
    }

    #[test]
    fn a_narrowed_error_says_where_and_how_often() {
        let fault = Fault::throttling("ecr:*")
            .registry("111122223333", "eu-west-1")
            .times(3)
            .share(0.5);
        let body = json!({
            "operation": "ecr:*", "when": "before", "status": 400, "code": "ThrottlingException",
            "message": "Rate exceeded", "account": "111122223333", "region": "eu-west-1", "times": 3, "share": 0.5,
        });
        assert_eq!(fault.body(), body);
    }
}
