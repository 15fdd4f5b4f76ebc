//! Reading ServiceAccounts and writing their `imagePullSecrets`.

use k8s_openapi::api::core::v1::{LocalObjectReference, ServiceAccount};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{plan::AccountSeen, secret::RIGHTS};
use crate::control::error::{Error, Result};

pub(super) async fn look(api: &Api<ServiceAccount>, name: &str) -> Result<AccountSeen> {
    match api.get_opt(name).await {
        Ok(None) => Ok(AccountSeen::Missing),
        Ok(Some(account)) => Ok(seen(&account)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(AccountSeen::Unreadable(format!(
            "the operator may not read ServiceAccount {name}: {RIGHTS}"
        ))),
        Err(error) => Err(Error::kube("read the ServiceAccount")(error)),
    }
}

fn seen(account: &ServiceAccount) -> AccountSeen {
    AccountSeen::Found {
        uid: account.uid().unwrap_or_default(),
        resource_version: account.resource_version().unwrap_or_default(),
        names: named(account).collect(),
    }
}

fn named(account: &ServiceAccount) -> impl Iterator<Item = String> {
    account
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|entry| entry.name.clone())
}

/// Replaces the list. Server-side apply knows it only as a whole (`listType: atomic`), and would take over the entries of
/// others; so it is written as it was seen, with or without the one entry, under the resourceVersion of what was seen.
pub(super) async fn write(
    api: &Api<ServiceAccount>,
    name: &str,
    seen: &AccountSeen,
    names: impl Iterator<Item = String>,
) -> Result<AccountSeen> {
    let AccountSeen::Found {
        uid, resource_version, ..
    } = seen
    else {
        return Ok(seen.clone());
    };
    let entries: Vec<LocalObjectReference> = names.map(|name| LocalObjectReference { name }).collect();
    let patch = json!({
        "metadata": { "uid": uid, "resourceVersion": resource_version },
        "imagePullSecrets": entries,
    });
    let written = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match written {
        Ok(account) => Ok(self::seen(&account)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(AccountSeen::Missing),
        Err(error) => Err(Error::write(&format!("ServiceAccount {name}"), error)),
    }
}
