//! Building the programs of this clone, for those whom cargo does not build them for.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::progress::Progress;
use crate::clone::root;
use crate::tasks::Tasks;

/// The features with which a program is built.
#[derive(Clone, Copy, Debug)]
pub(super) enum Features {
    /// Those of the package of its name: as it is released.
    Own,
    /// Those of all packages together: as tests are built, so that nothing is compiled twice.
    Workspace,
}

/// The part of cargo's messages that says where a program is.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

pub(super) async fn program(name: &'static str, profile: &str, features: Features) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--profile", profile, "--bin", name]);
    match features {
        Features::Own => cargo.args(["--package", name]),
        Features::Workspace => cargo.arg("--workspace"),
    };
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.current_dir(root());
    let tasks = Tasks::new()?;
    let mut built = None;
    let run = tasks.run(&cargo, |line| {
        let message = serde_json::from_str::<Message>(line).ok();
        built = message.and_then(|message| message.executable).or(built.take());
    });
    let progress = Progress::new(name);
    let status = progress
        .follow("it from this clone", || "compiling".to_owned(), run)
        .await?;
    if !status.success() {
        bail!("building {name} failed ({status}): what cargo said stands above");
    }
    built.with_context(|| format!("cargo built {name} and did not say where"))
}
