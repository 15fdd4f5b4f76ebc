//! Building the AWS stand-in with cargo, in its own workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::key::Key;
use super::progress::Progress;
use super::{cache, stand_in_sources, stand_in_target_directory};
use crate::clone::root;
use crate::environment::as_by_hand;
use crate::keeper::Keeper;
use crate::process::Process;

const PROGRAM: &str = "aws-stand-in";

/// The longest a build may take, on a slow machine with a slow network.
const LIMIT: Duration = Duration::from_hours(1);

pub(super) async fn program() -> Result<PathBuf> {
    let sources = stand_in_sources();
    let mut key = Key::default();
    key.add(&compiler_version(&sources)?);
    key.add_tree(&sources, "target")?;
    // The evaluator of lifecycle policies is compiled from the operator's sources.
    key.add_tree(&root().join("src/document/lifecycle"), "target")?;
    let progress = Progress::new(PROGRAM);
    let entry = cache::entry(PROGRAM, &key.finish(), &progress, async |directory, keeper| {
        compile(&sources, directory, keeper, &progress).await
    })
    .await?;
    Ok(entry.join(PROGRAM))
}

async fn compile(sources: &Path, directory: &Path, keeper: Arc<Keeper>, progress: &Progress) -> Result<()> {
    let target = stand_in_target_directory()?;
    forget_other_sources(&target)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--release", "--locked"])
        .current_dir(sources)
        .env("CARGO_TARGET_DIR", &target);
    // Cargo tells of its progress itself, better than we could.
    let child = keeper.spawn(&as_by_hand(&cargo), Stdio::null(), Stdio::inherit(), b"")?;
    let process = Process::new("cargo build", child, directory.join("build.log"), keeper);
    let end = process.wait_exit(LIMIT);
    let status = progress
        .follow(
            "the AWS stand-in (about 3 minutes the first time)",
            || "compiling".to_owned(),
            end,
        )
        .await?;
    if !status.success() {
        bail!("building the AWS stand-in failed ({status}): what cargo said stands above");
    }
    let built = target.join("release").join(PROGRAM);
    fs::copy(&built, directory.join(PROGRAM)).with_context(|| format!("copying {}", built.display()))?;
    Ok(())
}

/// All clones share the target directory, for its dependencies. Cargo takes what another clone's sources were compiled to for
/// what ours are, unless one of ours is newer; so it is made to compile the program itself anew.
fn forget_other_sources(target: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(target.join("release/.fingerprint")) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{PROGRAM}-")) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

/// The compiler's name for itself, which a toolchain file among the sources may change.
fn compiler_version(sources: &Path) -> Result<Vec<u8>> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(sources)
        .output()
        .context("asking rustc for its version")?;
    if !output.status.success() {
        bail!("`rustc -vV`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
