//! Building the operator of this clone, for programs that cargo does not build it for.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::progress::Progress;
use crate::clone::root;
use crate::tasks::Tasks;

const PACKAGE: &str = "ecr-operator";

/// The part of cargo's messages that says where a program is.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

pub(super) async fn program(profile: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([
        "build",
        "--profile",
        profile,
        "--package",
        PACKAGE,
        "--bin",
        PACKAGE,
        "--message-format",
        "json-render-diagnostics",
    ]);
    cargo.current_dir(root());
    let tasks = Tasks::new()?;
    let mut built = None;
    let run = tasks.run(&cargo, |line| {
        let message = serde_json::from_str::<Message>(line).ok();
        built = message.and_then(|message| message.executable).or(built.take());
    });
    let progress = Progress::new(PACKAGE);
    let status = progress.follow("the operator", || "compiling".to_owned(), run).await?;
    if !status.success() {
        bail!("building the operator failed ({status}): what cargo said stands above");
    }
    built.context("cargo built the operator and did not say where")
}
