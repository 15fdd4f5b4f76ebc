//! Building the programs of this clone, for whoever cargo does not build them for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::clone::root;
use crate::progress::Progress;
use crate::tasks::Tasks;

const OPERATOR: &str = "ecr-operator";
const PLUGIN: &str = "kubectl-ecr";

/// The part of cargo's messages that says where a program is.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// All programs of the workspace in the profile for development, by name.
///
/// All of them, always: cargo chooses the features of a dependency by the packages that are built together, and another
/// choice would compile the dependency once more.
pub async fn workspace_programs() -> Result<BTreeMap<String, PathBuf>> {
    build("the workspace", &["--workspace", "--bins"]).await
}

/// The operator of this clone as it is now, in the profile for development. Tests of the operator's own package have it from
/// cargo already.
pub async fn operator() -> Result<PathBuf> {
    let mut built = workspace_programs().await?;
    built
        .remove(OPERATOR)
        .context("cargo built the workspace without the operator")
}

/// The plugin of kubectl of this clone as it is now, in the profile for development. Cargo gives tests the programs of their own
/// package only.
pub async fn plugin() -> Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let mut built = workspace_programs().await?;
        built
            .remove(PLUGIN)
            .context("cargo built the workspace without the plugin")
    };
    BUILT.get_or_try_init(build).await.cloned()
}

/// The operator of this clone as it is released: optimised and stripped. Takes minutes to build.
pub async fn released_operator() -> Result<PathBuf> {
    let mut built = build(
        "the operator",
        &["--profile", "release", "--package", OPERATOR, "--bin", OPERATOR],
    )
    .await?;
    built
        .remove(OPERATOR)
        .context("cargo built the operator and did not say where")
}

async fn build(what: &str, selection: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.arg("build").args(selection);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.current_dir(root());
    let tasks = Tasks::new()?;
    let mut built = BTreeMap::new();
    let run = tasks.run(&cargo, |line| {
        if let Ok(Message {
            target: Some(target),
            executable: Some(executable),
        }) = serde_json::from_str(line)
        {
            built.insert(target.name, executable);
        }
    });
    let progress = Progress::new("cargo");
    let status = progress.follow(what, || "compiling".to_owned(), run).await?;
    if !status.success() {
        bail!("building {what} failed ({status}): what cargo said stands above");
    }
    Ok(built)
}
