//! Registry passwords: each is bound to the principal that asked for it, as a token of ECR is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::credentials::Caller;

/// How long a token lasts.
pub(crate) const LIFETIME: Duration = Duration::from_hours(12);

/// The passwords given out.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, (Instant, Caller)>>);

impl Tokens {
    /// A new authorization token, `base64(AWS:password)`.
    pub(crate) fn issue(&self, caller: &Caller) -> String {
        let password = STANDARD.encode(format!("{}{}", Uuid::new_v4(), Uuid::new_v4()));
        let token = STANDARD.encode(format!("AWS:{password}"));
        self.0.lock().insert(password, (Instant::now(), caller.clone()));
        token
    }

    /// Who is behind an `Authorization` header of the data plane.
    pub(crate) fn bearer(&self, authorization: &str) -> Option<Caller> {
        let decoded = STANDARD.decode(authorization.strip_prefix("Basic ")?.trim()).ok()?;
        let password = std::str::from_utf8(&decoded).ok()?.strip_prefix("AWS:")?;
        let tokens = self.0.lock();
        let (issued, caller) = tokens.get(password)?;
        (issued.elapsed() < LIFETIME).then(|| caller.clone())
    }
}
