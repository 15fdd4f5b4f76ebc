//! The one policy that selects everything.

use anyhow::Result;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::objects::{self, Watch, resource};
use super::super::phases::generous;
use super::super::stage::{NAMESPACE, Stage};

const NAME: &str = "all";

/// How many images the first document keeps: more than there are.
pub(super) const FIRST: u32 = 1_000;

fn manifest(guarded: bool, keep: u32) -> Value {
    let guard = match guarded {
        true => json!({ "mode": "Enabled", "maxPercent": 20 }),
        false => json!({ "mode": "Disabled" }),
    };
    let rule = json!({
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": keep },
        "action": { "type": "expire" },
    });
    json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "LifecyclePolicy",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "spec": { "repositorySelector": {}, "guard": guard, "rules": [rule] },
    })
}

/// Applies the policy by which so many images are kept.
pub(super) async fn apply(client: &Client, guarded: bool, keep: u32) -> Result<()> {
    let resource = resource("LifecyclePolicy", "lifecyclepolicies");
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);
    let patch = Patch::Apply(manifest(guarded, keep));
    api.patch(NAME, &PatchParams::apply("bench").force(), &patch).await?;
    Ok(())
}

/// What stands for the policy that applies now.
pub(super) async fn asked(client: &Client) -> Result<String> {
    Ok(objects::cleanup(client, 0).await?.asked)
}

/// Waits until a policy that asks for something else than `before` is in force on all.
pub(super) async fn in_force(stage: &Stage, count: u32, before: &str) -> Result<()> {
    let before = before.to_owned();
    let lack = move |object: &_| objects::lacks_policy_after(&before, object);
    let mut watch = Watch::start_with(&stage.client, lack).await?;
    let all = usize::try_from(count)?;
    watch
        .until(generous(count), "the policy to be in force on all", |seen| {
            seen.ready() == all
        })
        .await
}
