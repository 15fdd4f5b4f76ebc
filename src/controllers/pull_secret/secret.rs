//! Reading and writing the Secret, by its name and never by a list.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::ObjectMeta,
};
use serde_json::json;

use super::{
    entries::{self, KEY, Known},
    plan::{Ours, SecretSeen},
};
use crate::{
    api::{ENTRIES_ANNOTATION, EXPIRES_ANNOTATION, GROUP, PULL_SECRET_LABEL, PullSecret},
    control::error::{Error, Result},
};

const TYPE: &str = "kubernetes.io/dockerconfigjson";

/// What a missing right is told with.
pub(super) const RIGHTS: &str =
    "set pullSecrets.enabled in the values of the chart, or list this namespace in pullSecrets.namespaces";

/// Looks at the Secret. One that is not ours is seen by its metadata only.
pub(super) async fn look(api: &Api<Secret>, object: &PullSecret) -> Result<SecretSeen> {
    const DOING: &str = "read the metadata of the Secret";
    let name = object.secret_name();
    let found = match api.get_metadata_opt(&name).await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Ok(SecretSeen::Unreadable(format!(
                "the operator may not read Secret {name}: {RIGHTS}"
            )));
        }
        Err(error) => return Err(Error::kube(DOING)(error)),
    };
    let Some(found) = found else {
        return Ok(SecretSeen::Absent);
    };
    if let Some(another) = another(&found.metadata, object) {
        return Ok(another);
    }
    match api.get_opt(&name).await.map_err(Error::kube("read the Secret"))? {
        None => Ok(SecretSeen::Absent),
        Some(secret) => Ok(seen(&secret, object)),
    }
}

/// Whose the Secret is, where it is not ours.
fn another(meta: &ObjectMeta, object: &PullSecret) -> Option<SecretSeen> {
    let uid = object.uid().filter(|uid| !uid.is_empty());
    let labelled = meta.labels.as_ref().and_then(|labels| labels.get(PULL_SECRET_LABEL));
    let owners = meta.owner_references.iter().flatten();
    let mut of_kind =
        owners.filter(|owner| owner.kind == "PullSecret" && owner.api_version.split('/').next() == Some(GROUP));
    let ours =
        uid.is_some() && labelled == uid.as_ref() && of_kind.clone().any(|owner| Some(&owner.uid) == uid.as_ref());
    if ours {
        return None;
    }
    let owner = of_kind.find(|owner| Some(&owner.uid) != uid.as_ref());
    Some(SecretSeen::Another(owner.map(|owner| owner.name.clone())))
}

fn seen(secret: &Secret, object: &PullSecret) -> SecretSeen {
    if let Some(another) = another(&secret.metadata, object) {
        return another;
    }
    match secret.type_.as_deref() {
        Some(TYPE) => {}
        other => return SecretSeen::OfType(other.unwrap_or_default().chars().take(80).collect()),
    }
    let annotations = secret.annotations();
    let config = secret.data.as_ref().and_then(|data| data.get(KEY));
    let (entries, intact) = entries::read(
        annotations.get(ENTRIES_ANNOTATION).map(String::as_str),
        config.map(|config| config.0.as_slice()),
    );
    let told = annotations.get(EXPIRES_ANNOTATION) == expiry(&entries).as_ref();
    SecretSeen::Ours(Ours {
        uid: secret.uid().unwrap_or_default(),
        resource_version: secret.resource_version().unwrap_or_default(),
        intact: intact && told,
        entries,
    })
}

/// When the first of the tokens expires.
fn expiry(entries: &[Known]) -> Option<String> {
    let first = entries.iter().map(|known| known.entry.expires_at).min()?;
    Some(first.to_string())
}

fn annotations(entries: &[Known]) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(ENTRIES_ANNOTATION.to_owned(), entries::annotation(entries))]);
    annotations.extend(expiry(entries).map(|first| (EXPIRES_ANNOTATION.to_owned(), first)));
    annotations
}

/// Creates the Secret. One that is there by now is left alone: the conflict leads to another look.
pub(super) async fn create(api: &Api<Secret>, object: &PullSecret, entries: &[Known]) -> Result<SecretSeen> {
    let name = object.secret_name();
    let uid = object.uid().unwrap_or_default();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from([(PULL_SECRET_LABEL.to_owned(), uid)])),
            annotations: Some(annotations(entries)),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        data: Some(BTreeMap::from([(
            KEY.to_owned(),
            ByteString(entries::config(entries).into_bytes()),
        )])),
        ..Secret::default()
    };
    let created = api.create(&PostParams::default(), &secret).await;
    let created = created.map_err(|error| refused(&name, entries, error))?;
    Ok(seen(&created, object))
}

/// Writes the entries into our Secret, as it was seen and no other. What others keep in it besides stays.
pub(super) async fn update(
    api: &Api<Secret>,
    object: &PullSecret,
    ours: &Ours,
    entries: &[Known],
) -> Result<SecretSeen> {
    let name = object.secret_name();
    let patch = json!({
        "metadata": {
            "uid": ours.uid,
            "resourceVersion": ours.resource_version,
            "annotations": annotations(entries),
        },
        "data": { KEY: ByteString(entries::config(entries).into_bytes()) },
    });
    let written = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match written {
        Ok(written) => Ok(seen(&written, object)),
        // Deleted since it was seen: it is made anew.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(SecretSeen::Absent),
        Err(error) => Err(refused(&name, entries, error)),
    }
}

/// Deletes our Secret, as it was seen and no other.
pub(super) async fn delete(api: &Api<Secret>, object: &PullSecret, ours: &Ours) -> Result<SecretSeen> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(ours.uid.clone()),
            resource_version: Some(ours.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    match api.delete(&object.secret_name(), &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(Error::kube("delete the Secret")(error)),
    }
    // Its deletion is seen, not believed: a finalizer of somebody else may keep it.
    look(api, object).await
}

/// A write that the apiserver refused. Its words are told, unless they hold what nobody may read: what an admission webhook
/// says is up to it.
fn refused(name: &str, entries: &[Known], error: kube::Error) -> Error {
    match Error::write(&format!("Secret {name}"), error) {
        Error::Refused { what, why } => {
            let config = entries::config(entries);
            let encoded = ByteString(config.clone().into_bytes());
            let encoded = serde_json::to_string(&encoded).unwrap_or_default();
            let given_away = entries.iter().any(|known| why.contains(known.auth.reveal()))
                || why.contains(&config)
                || why.contains(encoded.trim_matches('"'));
            let why = match given_away {
                true => "the answer holds the tokens and is not shown".to_owned(),
                false if why.contains("forbidden") => format!("{why}; {RIGHTS}"),
                false => why,
            };
            Error::Refused { what, why }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::pull::Auth;

    const UID: &str = "11111111-2222-3333-4444-555555555555";

    fn object() -> PullSecret {
        let spec = serde_json::from_value(json!({ "registryRefs": [{ "name": "main" }] })).unwrap();
        let mut object = PullSecret::new("web", spec);
        object.metadata.uid = Some(UID.into());
        object
    }

    fn meta(label: &str, owner: &str, kind: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "labels": { PULL_SECRET_LABEL: label },
            "ownerReferences": [{ "apiVersion": "ecr-operator.dev/v1alpha1", "kind": kind, "name": "web", "uid": owner }],
        }))
        .unwrap()
    }

    #[test]
    fn a_secret_is_ours_by_owner_reference_and_label_together() {
        let other = "99999999-2222-3333-4444-555555555555";
        assert_eq!(another(&meta(UID, UID, "PullSecret"), &object()), None);
        assert_eq!(
            another(&meta(other, UID, "PullSecret"), &object()),
            Some(SecretSeen::Another(None))
        );
        let of_other = Some(SecretSeen::Another(Some("web".into())));
        assert_eq!(another(&meta(UID, other, "PullSecret"), &object()), of_other);
        assert_eq!(
            another(&meta(UID, UID, "Deployment"), &object()),
            Some(SecretSeen::Another(None))
        );
        assert_eq!(
            another(&ObjectMeta::default(), &object()),
            Some(SecretSeen::Another(None))
        );
        // An object that does not exist yet, as `ecr-operator plan` sees it, owns nothing.
        let mut new = object();
        new.metadata.uid = None;
        assert!(another(&meta("", "", "PullSecret"), &new).is_some());
    }

    #[test]
    fn words_of_the_apiserver_that_hold_a_token_are_not_told() {
        let auth = Auth::new("QVdTOnNlY3JldA==");
        let known = Known {
            entry: entries::Entry {
                registry: "main".into(),
                host: "h".into(),
                issued_at: jiff::Timestamp::UNIX_EPOCH,
                expires_at: jiff::Timestamp::UNIX_EPOCH,
                scope: String::new(),
                digest: entries::digest(&auth),
            },
            auth,
        };
        let entries = [known];
        let config = entries::config(&entries);
        let encoded = serde_json::to_string(&ByteString(config.clone().into_bytes())).unwrap();
        for told in ["denied: QVdTOnNlY3JldA==", &config, encoded.trim_matches('"'), "quota"] {
            let status = kube::core::Status::failure(&format!("no {told}"), "Forbidden").with_code(403);
            let error = refused("web", &entries, kube::Error::Api(Box::new(status)));
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("c2VjcmV0") && !shown.contains("QVdTOnNlY3JldA"),
                "{shown}"
            );
            assert_eq!(shown.contains("quota"), told == "quota", "{shown}");
        }
    }
}
