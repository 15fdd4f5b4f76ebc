//! Programs that run to their end in view of whoever started us: cargo, for the most part.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;

use crate::environment::as_by_hand;
use crate::keeper::Keeper;
use crate::process::Process;

/// How long a program may take to end after it has closed its output.
const END_LIMIT: Duration = Duration::from_mins(1);

/// Runs programs that end with us like those of a bed, but show what they do.
#[derive(Debug)]
pub struct Tasks {
    keeper: Arc<Keeper>,
}

impl Tasks {
    /// Ready to run programs.
    pub fn new() -> Result<Self> {
        Ok(Self {
            keeper: Keeper::start(None)?,
        })
    }

    /// Runs a program to its end, as from a shell. Its stderr is ours; `line` gets each line of its stdout as it comes.
    ///
    /// There is no limit to its time. When the returned future is dropped, the program and its children are killed.
    pub async fn run(&self, command: &Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = self
            .keeper
            .spawn(&as_by_hand(command), Stdio::piped(), Stdio::inherit(), b"")?;
        let stdout = child.stdout.take().context("the started program has no stdout")?;
        let process = Process::new(&program, child, "/dev/null".into(), Arc::clone(&self.keeper));
        let mut stdout = BufReader::new(ChildStdout::from_std(stdout)?);
        let mut bytes = Vec::new();
        while stdout.read_until(b'\n', &mut bytes).await? > 0 {
            line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
            bytes.clear();
        }
        process.wait_exit(END_LIMIT).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_status_are_told() -> Result<()> {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; printf two; exit 3"]);
        let status = Tasks::new()?.run(&command, |line| lines.push(line.to_owned())).await?;
        assert_eq!(
            (status.code(), lines),
            (Some(3), vec!["one".to_owned(), "two".to_owned()])
        );
        Ok(())
    }
}
