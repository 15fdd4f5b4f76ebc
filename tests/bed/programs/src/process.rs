//! A running program: its signals, its end and its log.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::keeper::Keeper;
use crate::wait;

pub use rustix::process::Signal;

/// How much of a log an error shows.
const TAIL_LINES: usize = 20;

/// A program started in a bed. It is ended when this value is dropped, and at the latest with its parent.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    state: Mutex<State>,
    log: PathBuf,
    keeper: Arc<Keeper>,
}

#[derive(Debug)]
enum State {
    Started(Child),
    Ended(ExitStatus),
}

impl Process {
    /// A child that `keeper` has started, with the file that its output goes to.
    pub fn new(name: &str, child: Child, log: PathBuf, keeper: Arc<Keeper>) -> Self {
        Self {
            name: name.to_owned(),
            pid: child.id(),
            state: Mutex::new(State::Started(child)),
            log,
            keeper,
        }
    }

    /// The process id, which is the id of its process group too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written so far, to stdout and stderr alike. Empty when the log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it has not ended yet. A stopped process (`SIGSTOP`) is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, or nothing while it runs. What is left of its process group is killed then.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        let State::Started(child) = &mut *state else {
            return state.ended();
        };
        // The zombie is looked at first and reaped last: while it is there, its number belongs to nobody else.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(child);
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => self.reap(&mut state),
        }
    }

    /// Sends a signal to the process, not to the rest of its group. An ended process is an error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match &*self.lock() {
            State::Started(child) => Ok(kill_process(Pid::from_child(child), signal)?),
            State::Ended(status) => Err(anyhow!("{} has ended ({status}) and takes no signal", self.name)),
        }
    }

    /// Waits until it has ended, for at most `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        wait::eventually(limit, &format!("the end of {}", self.name), async || self.exit_status()).await
    }

    /// Kills the process and its group at once and waits for it to be gone. Does nothing when it has ended.
    pub fn kill(&self) {
        self.reap(&mut self.lock());
    }

    /// Looks until a look succeeds; gives up at `limit`, or at once when the process has ended. Errors carry its log's end.
    pub async fn until_ready<T>(&self, limit: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let ready = wait::eventually(limit, "readiness", async || match look().await {
            Ok(found) => Ok(Some(found)),
            // Nothing more to wait for.
            Err(_) if !self.is_running() => Ok(None),
            Err(error) => Err(error),
        });
        match ready.await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.failure("did not become ready")),
            Err(error) => Err(self.failure(&error.to_string())),
        }
    }

    /// An error about this process: `what`, how it ended if it did, the log's path and its last lines.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let state = match self.exit_status() {
            Some(status) => format!("it ended with {status}"),
            None => "it is running".to_owned(),
        };
        let log = self.log();
        let log = tail(&log, TAIL_LINES);
        anyhow!(
            "{}: {what}; {state}; the end of {}:\n{log}",
            self.name,
            self.log.display()
        )
    }

    fn reap(&self, state: &mut State) -> Option<ExitStatus> {
        let State::Started(child) = state else {
            return state.ended();
        };
        // An empty group is no error here: that is what is wanted.
        kill_process_group(Pid::from_child(child), Signal::KILL).ok();
        self.keeper.forget(self.pid);
        let status = child.wait().ok()?;
        *state = State::Ended(status);
        Some(status)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ended(&self) -> Option<ExitStatus> {
        match self {
            Self::Started(_) => None,
            Self::Ended(status) => Some(*status),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_of_a_short_text_is_the_text() {
        assert_eq!(tail("a\nb\n", 20), "a\nb");
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
    }
}
