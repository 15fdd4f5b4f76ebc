//! The token of a data plane: asked for once, kept for half of its life.

use std::sync::Arc;

use http::HeaderValue;
use reqwest::Url;
use tokio::time::Instant;

use super::{
    Plane,
    endpoint::{Endpoint, endpoint},
};
use crate::{api::names::RepositoryName, aws::error::AwsError};

/// The way into a registry.
pub(super) struct Login {
    /// Marked as sensitive, so that no log shows it.
    pub(super) header: HeaderValue,
    pub(super) base: Url,
    renew_at: Instant,
}

/// Why there is none.
pub(super) enum Error {
    Aws(AwsError),
    WrongRegistry(String),
}

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl Login {
    /// The address of something in a repository.
    pub(super) fn path(&self, repository: &RepositoryName, path: &str) -> Result<Url, String> {
        self.base
            .join(&format!("/v2/{repository}/{path}"))
            .map_err(|error| error.to_string())
    }
}

impl Plane {
    /// The login that is kept, or a new one.
    pub(super) async fn login(&self) -> Result<Arc<Login>, Error> {
        const OPERATION: &str = "GetAuthorizationToken";
        let mut kept = self.shared.login.lock().await;
        if let Some(login) = kept.as_ref().filter(|login| Instant::now() < login.renew_at) {
            return Ok(Arc::clone(login));
        }
        let authorization = self.shared.ecr.authorization().await?;
        let base = match endpoint(&authorization.endpoint, self.host())
            .map_err(|message| AwsError::incomplete(OPERATION, &format!("a usable endpoint ({message})")))?
        {
            Endpoint::OfHost(base) => base,
            Endpoint::OfCaller(base) => {
                self.check_account(&authorization.endpoint).await?;
                base
            }
        };
        let mut header = HeaderValue::from_str(&format!("Basic {}", authorization.token))
            .map_err(|_| AwsError::incomplete(OPERATION, "a token that fits into a header"))?;
        header.set_sensitive(true);
        let login = Arc::new(Login {
            header,
            base,
            renew_at: Instant::now() + authorization.lasts / 2,
        });
        *kept = Some(Arc::clone(&login));
        Ok(login)
    }

    /// An endpoint of the caller's account must not be taken for the registry of another.
    async fn check_account(&self, offered: &str) -> Result<(), Error> {
        let account = self.shared.ecr.account().await?;
        let wanted = &self.host().account;
        if account == wanted.as_str() {
            return Ok(());
        }
        Err(Error::WrongRegistry(format!(
            "the credentials belong to account {account}, whose registry is at {offered}; to get into the registry of \
             {wanted}, use credentials or a role of that account"
        )))
    }

    /// Drops a login that is not taken any more, unless it has been replaced already.
    pub(super) async fn forget(&self, login: &Arc<Login>) {
        let mut kept = self.shared.login.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, login)) {
            *kept = None;
        }
    }
}
