//! The rights in AWS that users are told to give the operator: those of the guide, so that the guide is what is tested.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::clone::root;

/// The account and Region that the guide writes of.
const GUIDES_ACCOUNT: &str = "111122223333";
const GUIDES_REGION: &str = "eu-west-1";

/// The least policy for `mode: Manage`, as `docs/guides/iam.md` has it first, for a registry.
pub fn operator_rights(account: &str, region: &str) -> Result<Value> {
    policy_below("## The least policy", account, region)
}

/// What reading events needs beyond it, as `docs/guides/iam.md` has it.
pub fn event_rights(account: &str, region: &str) -> Result<Value> {
    policy_below("## Events", account, region)
}

/// What promotions need beyond it, as `docs/guides/iam.md` has it.
pub fn promotion_rights(account: &str, region: &str) -> Result<Value> {
    policy_below("## Promotions", account, region)
}

/// What keeping images in use needs beyond it, as `docs/guides/iam.md` has it.
pub fn in_use_rights(account: &str, region: &str) -> Result<Value> {
    policy_below("## Images in use", account, region)
}

/// The first policy below a heading of the guide.
fn policy_below(heading: &str, account: &str, region: &str) -> Result<Value> {
    let path = root().join("docs/guides/iam.md");
    let guide = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let below = guide
        .split_once(&format!("\n{heading}\n"))
        .with_context(|| format!("the guide on IAM has no heading {heading:?}"))?;
    let block = below
        .1
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let policy = block.with_context(|| format!("the guide on IAM has no policy in JSON below {heading:?}"))?;
    let policy = policy.replace(GUIDES_ACCOUNT, account).replace(GUIDES_REGION, region);
    serde_json::from_str(&policy).with_context(|| format!("the policy of the guide below {heading:?} is not JSON"))
}
