//! One bed: a directory, and the processes that live in it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::ports::Ports;
use bed_programs::Keeper;
use bed_programs::Process;
use bed_programs::isolated;

/// Set to anything, this keeps the directory (logs, data, audit log) for a look afterwards.
const KEEP: &str = "BED_KEEP";

/// How long a program that is run to its end may take.
const RUN_LIMIT: Duration = Duration::from_mins(3);

/// A directory under the system's one for temporary files, readable by its owner alone, and all that runs in it.
///
/// Cheap to clone; clones are the same bed. When the last of them and the last process are dropped, or this program ends in
/// any way at all, the processes are killed and the directory is removed. `BED_KEEP=1` keeps the directory.
#[derive(Debug, Clone)]
pub struct Bed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    keeper: Arc<Keeper>,
    ports: Mutex<Ports>,
    /// Numbers the programs that are run to their end, for the names of their files.
    runs: AtomicU64,
}

/// What a program that was run to its end has left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    command: String,
}

impl Output {
    /// Its stdout, or an error with its stderr if it did not succeed.
    pub fn checked(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(anyhow!("`{}`: {}: {}", self.command, self.status, self.stderr.trim()))
    }
}

impl Bed {
    /// Makes an empty bed.
    pub fn new() -> Result<Self> {
        let name = format!("ecr-operator-bed-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let directory = std::env::temp_dir().join(name);
        // It holds tokens and keys.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let removed = if std::env::var_os(KEEP).is_some() {
            None
        } else {
            Some(directory.as_path())
        };
        let keeper = Keeper::start(removed)?;
        fs::create_dir(directory.join("home"))?;
        let inner = Inner {
            directory,
            keeper,
            ports: Mutex::default(),
            runs: AtomicU64::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where everything of this bed lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// A port of 127.0.0.1 that nothing listens on and that no other bed is given meanwhile.
    pub fn free_port(&self) -> Result<u16> {
        let locks = bed_programs::cache_directory()?.join("ports");
        self.inner
            .ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(&locks)
    }

    /// Starts a program whose output goes to `NAME.log` in the bed's directory, after what is there already.
    ///
    /// It does not inherit proxies, AWS settings, kubeconfig and home of whoever started us; its home is an empty directory.
    pub fn spawn(&self, name: &str, command: &Command) -> Result<Process> {
        let path = self.inner.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let command = isolated(command, &self.inner.directory.join("home"));
        let child = self
            .inner
            .keeper
            .spawn(&command, log.try_clone()?.into(), log.into(), b"")?;
        Ok(Process::new(name, child, path, Arc::clone(&self.inner.keeper)))
    }

    /// Runs a program to its end, for at most three minutes, with `input` on its standard input.
    pub async fn run(&self, command: &Command, input: &str) -> Result<Output> {
        let program = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let number = self.inner.runs.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.inner.directory.join(format!("run-{number}-{program}.{kind}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let isolated = isolated(command, &self.inner.directory.join("home"));
        let child = self.inner.keeper.spawn(
            &isolated,
            File::create(&stdout)?.into(),
            File::create(&stderr)?.into(),
            input.as_bytes(),
        )?;
        let process = Process::new(&program, child, stderr.clone(), Arc::clone(&self.inner.keeper));
        let status = process
            .wait_exit(RUN_LIMIT)
            .await
            .map_err(|error| process.failure(&error.to_string()))?;
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let output = Output {
            status,
            stdout: read(&stdout)?,
            stderr: read(&stderr)?,
            command: shown(command),
        };
        fs::remove_file(stdout)?;
        fs::remove_file(stderr)?;
        Ok(output)
    }

    /// Kills everything in the bed and removes its directory; returns when that is done. Nothing can be started afterwards.
    pub fn end(&self) {
        self.inner.keeper.finish();
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
#[path = "bed_tests.rs"]
mod tests;
