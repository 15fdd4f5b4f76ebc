//! The rights in AWS that users are told to give the operator: those of the reference page, so that the page is what is
//! tested.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use bed_programs::root;

/// The account, the Region and the installation that the page writes of.
const PAGES: [&str; 3] = ["111122223333", "eu-west-1", "prod/"];

/// What an operator needs that manages a registry and looks after nothing else.
pub const MANAGES: &[&str] = &["read", "repository", "lifecycle", "delete"];

/// The rights for these features in one policy, as `docs/reference/iam.md` has them, for a registry and an installation.
pub fn rights(account: &str, region: &str, owner: &str, features: &[&str]) -> Result<Value> {
    let path = root().join("docs/reference/iam.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let [of_account, of_region, of_owner] = PAGES;
    let page = page
        .replace(of_account, account)
        .replace(of_region, region)
        .replace(of_owner, &format!("{owner}/"));
    let mut statements = Vec::new();
    for feature in features {
        let policy: Value = serde_json::from_str(block(&page, feature)?)
            .with_context(|| format!("the rights for {feature} are not JSON"))?;
        statements.extend(policy["Statement"].as_array().cloned().unwrap_or_default());
    }
    Ok(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// The JSON below the heading of a feature.
fn block<'p>(page: &'p str, feature: &str) -> Result<&'p str> {
    page.split_once(&format!("\n## {feature}\n"))
        .and_then(|(_, below)| below.split("```json\n").nth(1))
        .and_then(|rest| rest.split("```").next())
        .with_context(|| format!("the page on IAM has no policy below the heading {feature}"))
}

/// What the role may that PullSecrets pull with, as `docs/reference/iam.md` has it.
pub fn pull_role_rights(account: &str, region: &str) -> Result<Value> {
    rights(account, region, "prod", &["pull-role"])
}
