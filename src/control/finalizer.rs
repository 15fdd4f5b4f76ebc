//! Puts our finalizer on an object and takes it off.
//!
//! kube's `finalizer()` was rejected: it puts the finalizer on every object before the first look, while an object that
//! only observes, or that is refused, must never get one.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::{Error, Result};
use crate::api::FINALIZER;

/// Whether the object has our finalizer.
pub(crate) fn is_on<K: Resource>(object: &K) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Puts the finalizer on. Fails with a conflict if the object has changed since it was read.
pub(crate) async fn put_on<K>(api: &Api<K>, object: &K) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    write(api, object, finalizers)
        .await
        .map_err(Error::kube("put the finalizer on the object"))
}

/// Takes the finalizer off. An object that is gone already is a success.
pub(crate) async fn take_off<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let finalizers = object
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect();
    match write(api, object, finalizers)
        .await
        .map_err(Error::kube("take the finalizer off the object"))
    {
        Err(error) if error.is_gone_object() => Ok(()),
        other => other.map(drop),
    }
}

/// The resourceVersion makes it a compare-and-swap: the list is replaced as a whole, and another controller may have put
/// its own finalizer there meanwhile.
async fn write<K>(api: &Api<K>, object: &K, finalizers: Vec<String>) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({ "metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
}
