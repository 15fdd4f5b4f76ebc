//! Registry passwords: each is bound to the principal that asked for it, as a token of ECR is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::credentials::Caller;

/// How long a token lasts, where nothing else was set for the account.
const LIFETIME: Duration = Duration::from_hours(12);

/// The passwords given out.
#[derive(Default)]
pub(crate) struct Tokens {
    issued: Mutex<HashMap<String, (Instant, Caller)>>,
    /// By account.
    lifetimes: Mutex<HashMap<String, Duration>>,
}

impl Tokens {
    /// How long the account's tokens last from now on; `None` as ECR has it.
    pub(crate) fn set_lifetime(&self, account: &str, lifetime: Option<Duration>) {
        let mut lifetimes = self.lifetimes.lock();
        match lifetime {
            Some(lifetime) => lifetimes.insert(account.to_owned(), lifetime),
            None => lifetimes.remove(account),
        };
    }

    /// A new authorization token, `base64(AWS:password)`, and how long it lasts.
    pub(crate) fn issue(&self, caller: &Caller) -> (String, Duration) {
        let lifetime = self.lifetimes.lock().get(&caller.principal.account_id).copied();
        let lifetime = lifetime.unwrap_or(LIFETIME);
        let password = STANDARD.encode(format!("{}{}", Uuid::new_v4(), Uuid::new_v4()));
        let token = STANDARD.encode(format!("AWS:{password}"));
        let ends = Instant::now() + lifetime;
        self.issued.lock().insert(password, (ends, caller.clone()));
        (token, lifetime)
    }

    /// Who is behind an `Authorization` header of the data plane.
    pub(crate) fn bearer(&self, authorization: &str) -> Option<Caller> {
        let decoded = STANDARD.decode(authorization.strip_prefix("Basic ")?.trim()).ok()?;
        let password = std::str::from_utf8(&decoded).ok()?.strip_prefix("AWS:")?;
        let tokens = self.issued.lock();
        let (ends, caller) = tokens.get(password)?;
        (Instant::now() < *ends).then(|| caller.clone())
    }
}
