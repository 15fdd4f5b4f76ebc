//! The loop's side of a kind: what one has to be to be run by a controller, and what holds whatever it does.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        controller::Action,
        reflector::{ObjectRef, Store},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tracing::Instrument as _;

use super::{context::Context, error::Result, events::News, plan::Verdict, reason::Reason, report};
use crate::api::{RECONCILE_ANNOTATION, names::Digest};

/// How long an object whose reconcile panicked is left alone.
const PANICKED: Duration = Duration::from_mins(5);

/// A kind that a controller runs. Most kinds are [`Managed`] and get it from there.
pub(crate) trait Driven:
    Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// What the kinds share among themselves.
    type Shared: Send + Sync + 'static;

    /// Its name in metrics and logs.
    const CALLED: &'static str;

    /// Looks at one object and does what there is to do. Never fails: what goes wrong is reported on the object and decides
    /// when it is looked at again.
    fn drive(self, ctx: &Context<Self::Shared>) -> impl Future<Output = (Action, Reason)> + Send;

    /// The registry that is called for it, or those that are: as many objects are worked on at once for each.
    fn lane(&self, _ctx: &Context<Self::Shared>) -> String {
        String::new()
    }

    /// The object was seen by the watch, whatever changed of it.
    fn seen(&self, _ctx: &Context<Self::Shared>) {}

    /// The object is gone: what is remembered of it can go too.
    fn gone(_uid: &str, _ctx: &Context<Self::Shared>) {}
}

/// Drives one object when its turn has come, as it is then.
pub(crate) async fn in_turn<K: Driven>(
    guard: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context<K::Shared>>,
    reader: Store<DeserializeGuard<K>>,
) -> Result<Action, Infallible> {
    let lane = guard
        .0
        .as_ref()
        .map_or_else(|_| String::new(), |object| object.lane(&ctx));
    let Some(_turn) = ctx.turns.take(K::CALLED, lane).await else {
        return Ok(Action::await_change());
    };
    let Some(guard) = reader.get(&ObjectRef::from_obj(guard.as_ref())) else {
        // It was deleted meanwhile.
        ctx.memory.taken_up(K::CALLED, &key(guard.meta()));
        return Ok(Action::await_change());
    };
    // Made only now: many may wait, and what waits is to be small.
    Box::pin(reconcile(guard, ctx)).await
}

/// Drives one object, as the loop asks for it. Never fails, or the loop would look again at its own pace.
pub(crate) async fn reconcile<K: Driven>(
    guard: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context<K::Shared>>,
) -> Result<Action, Infallible> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = tracing::info_span!(
        "reconcile",
        kind = K::CALLED,
        namespace = guard.meta().namespace.as_deref().unwrap_or_default(),
        name = guard.meta().name.as_deref().unwrap_or_default(),
        reconcile_id = id,
    );
    let began = Instant::now();
    ctx.memory.taken_up(K::CALLED, &key(guard.meta()));
    ctx.metrics.begin(K::CALLED);
    let (action, result) = match &guard.0 {
        Ok(object) => {
            let drive = AssertUnwindSafe(object.clone().drive(&ctx));
            // One object must not stop all others of its kind.
            drive.catch_unwind().instrument(span).await.unwrap_or_else(|_| {
                tracing::error!(kind = K::CALLED, object = key(guard.meta()), "the reconcile panicked");
                (Action::requeue(PANICKED), Reason::Unavailable)
            })
        }
        Err(invalid) => {
            unreadable::<K>(invalid, &ctx).instrument(span).await;
            (Action::await_change(), Reason::Invalid)
        }
    };
    ctx.metrics.end(K::CALLED, result.as_str(), began.elapsed());
    Ok(action)
}

/// The longest value of the annotation that asks for a look, as the status takes it.
const LONGEST_ASKED: usize = 256;

/// The value of the annotation that asks for a look, as it is recorded: a long one by its hash, or the status that records it
/// would be refused for ever.
pub(crate) fn asked<K: Resource>(object: &K) -> Option<String> {
    use sha2::Digest as _;
    let value = object.annotations().get(RECONCILE_ANNOTATION)?;
    if value.chars().nth(LONGEST_ASKED).is_none() {
        return Some(value.clone());
    }
    let hash: [u8; 32] = sha2::Sha256::digest(value.as_bytes()).into();
    Some(Digest::from_bytes(&hash).to_string())
}

/// The key under which an object's triggers are remembered.
pub(crate) fn key(meta: &kube::core::ObjectMeta) -> String {
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

/// Reports an object that could not be read, which the schema should have refused. It stops nobody else.
async fn unreadable<K: Driven>(invalid: &kube::core::error_boundary::InvalidObject, ctx: &Context<K::Shared>) {
    tracing::warn!(error = %invalid.error, "the object cannot be read and is left alone");
    let meta = &invalid.metadata;
    let note = format!(
        "The object cannot be read: {}. {}",
        invalid.error,
        Reason::Invalid.cure()
    );
    let regarding = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        ..Default::default()
    };
    let verdict = Ok(Verdict::blocked(
        Reason::Invalid,
        format!("the object cannot be read: {}", invalid.error),
    ));
    let conditions = report::conditions(&[], &verdict, meta.generation, Timestamp::now());
    ctx.events
        .tell(regarding, News::Warning, Reason::Invalid.as_str(), note);
    let api: Api<kube::core::DynamicObject> = {
        let resource = kube::core::ApiResource::erase::<K>(&());
        match &meta.namespace {
            Some(namespace) => Api::namespaced_with(ctx.client.clone(), namespace, &resource),
            None => Api::all_with(ctx.client.clone(), &resource),
        }
    };
    let patch = json!({ "metadata": { "uid": meta.uid }, "status": { "conditions": conditions } });
    let name = meta.name.clone().unwrap_or_default();
    if let Err(error) = api
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        tracing::warn!(%error, "the status of an unreadable object could not be written");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::{
        control::{context::Memory, events::Events, turns::Turns},
        metrics::Metrics,
    };

    impl Driven for ConfigMap {
        type Shared = ();

        const CALLED: &'static str = "ConfigMap";

        async fn drive(self, _: &Context<()>) -> (Action, Reason) {
            assert!(self.name_any() != "hostile", "what nobody thought of");
            (Action::await_change(), Reason::Settled)
        }
    }

    fn named(name: &str) -> Arc<DeserializeGuard<ConfigMap>> {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        Arc::new(DeserializeGuard(Ok(object)))
    }

    #[tokio::test]
    async fn an_object_whose_reconcile_panics_is_left_alone_and_stops_no_other() -> anyhow::Result<()> {
        // Nothing listens there, and nothing is asked.
        let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:9".parse()?))?;
        let ctx = Arc::new(Context {
            metrics: Metrics::new(),
            events: Events::start(client.clone()),
            memory: Memory::default(),
            world: (),
            turns: Turns::new(1),
            check_interval: Duration::from_secs(1),
            client,
        });
        for (name, action) in [
            ("sound", Action::await_change()),
            ("hostile", Action::requeue(PANICKED)),
            ("sound", Action::await_change()),
        ] {
            let Ok(then) = reconcile(named(name), Arc::clone(&ctx)).await;
            assert_eq!(then, action, "{name}");
        }
        Ok(())
    }
}
