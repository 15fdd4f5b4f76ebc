//! The keeper: one small shell that outlives us by a moment and ends whatever we started.
//!
//! # Guarantees
//! However this process ends (return, panic, a signal, SIGKILL), the kernel closes its end of the keeper's pipe. The keeper
//! then kills every process group it was told of and removes the directory it was given. A process is told to the keeper
//! *before* it is allowed to become the program that was asked for, so there is no moment at which it could be lost.
//!
//! # Caveats
//! A program that moves itself into another process group escapes. None of those that the bed starts does.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};

/// Reads `+PID` and `-PID` lines until its input ends. `$1` is the directory to remove then; an empty one means none.
/// The directory is removed in several attempts, since a killed process may still be finishing a write.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT
pids=
while read -r line; do
  case $line in
    +*) pids="$pids ${line#+}" ;;
    -*) left=
        for pid in $pids; do [ "$pid" = "${line#-}" ] || left="$left $pid"; done
        pids=$left ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done
[ -n "$1" ] || exit 0
tries=0
until rm -rf "$1" && [ ! -e "$1" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 50 ] || exit 1
  sleep 0.1
done
"#;

/// Waits for one line, then becomes the program: until that line is written nothing but this shell is running.
const GATE: &str = r#"read -r _ && exec "$@""#;

/// Ends the processes registered with it, at the latest when this process is gone.
#[derive(Debug)]
pub struct Keeper {
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    /// `None` once the keeper was told to finish.
    lines: Option<ChildStdin>,
}

impl Keeper {
    /// Starts a keeper that removes `directory` at the end, if there is one.
    pub fn start(directory: Option<&Path>) -> Result<Arc<Self>> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "bed-keeper"])
            .arg(directory.unwrap_or(Path::new("")))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the shell that ends the bed's processes")?;
        let lines = child.stdin.take();
        Ok(Arc::new(Self {
            shell: Mutex::new(Shell { child, lines }),
        }))
    }

    /// Starts `command` in a process group of its own, registered here, with `input` on its standard input.
    ///
    /// Arguments, added or removed environment variables and the working directory are taken from `command`.
    pub fn spawn(&self, command: &Command, stdout: Stdio, stderr: Stdio, input: &[u8]) -> Result<Child> {
        let program = command.get_program();
        let mut gated = Command::new("sh");
        gated.args(["-c", GATE, "sh"]).arg(program).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => gated.env(key, value),
                None => gated.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            gated.current_dir(directory);
        }
        let mut child = gated
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let registered = self.tell('+', child.id());
        let Some(mut gate) = child.stdin.take().filter(|_| registered.is_ok()) else {
            // With its input closed the gate ends by itself; this only collects it.
            child.wait()?;
            return Err(registered
                .err()
                .unwrap_or_else(|| anyhow!("the started process has no input")));
        };
        gate.write_all(b"\n")
            .with_context(|| format!("letting {} start", program.display()))?;
        if !input.is_empty() {
            let input = input.to_vec();
            // More than a pipe holds would block here for as long as the program does not read. A program that ends
            // without reading everything says so itself, hence the ignored result.
            std::thread::spawn(move || gate.write_all(&input).ok());
        }
        Ok(child)
    }

    /// Forgets a process. To be called before it is reaped, since its id may be given to another process afterwards.
    pub fn forget(&self, pid: u32) {
        // A keeper that is gone has killed everything already.
        self.tell('-', pid).ok();
    }

    /// Ends everything that is registered, and returns when that is done and the directory is gone.
    pub fn finish(&self) {
        let mut shell = self.lock();
        shell.lines = None;
        shell.child.wait().ok();
    }

    fn tell(&self, sign: char, pid: u32) -> Result<()> {
        let mut shell = self.lock();
        let lines = shell
            .lines
            .as_mut()
            .ok_or_else(|| anyhow!("the bed was ended, nothing can be started in it"))?;
        // One write for the whole line: the keeper must never see half of a number.
        lines
            .write_all(format!("{sign}{pid}\n").as_bytes())
            .context("the shell that ends the bed's processes is gone")
    }

    fn lock(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.finish();
    }
}
