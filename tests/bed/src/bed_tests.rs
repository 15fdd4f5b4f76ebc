//! That nothing survives its parent, whatever way the parent ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

use super::*;
use bed_programs as wait;

/// Names to the [`victim`] how it is to end.
const END: &str = "BED_TEST_END";

/// A process that makes a bed, starts a program with a child of its own in it, tells of both, and ends as it was told to.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn victim() -> Result<()> {
    let Ok(end) = std::env::var(END) else { return Ok(()) };
    let bed = Bed::new()?;
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "sleep 1000 & sleep 1000"]);
    let process = bed.spawn("sleeper", &sleeper)?;
    // Not through print!: the harness would put it among its own lines.
    eprintln!("victim {} {}", process.pid(), bed.directory().display());
    match end.as_str() {
        "return" => Ok(()),
        "panic" => Err(anyhow!("as asked")),
        "exit" => std::process::exit(7),
        _ => loop {
            std::thread::park();
        },
    }
}

fn start_victim(end: &str) -> Result<(Child, u32, PathBuf)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "bed::tests::victim", "--ignored", "--nocapture"])
        .env(END, end)
        .env_remove(KEEP)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?)
        .lines()
        .map_while(Result::ok);
    let told = lines.find_map(|line| line.strip_prefix("victim ").map(str::to_owned));
    let told = told.context("the victim told nothing")?;
    let (pid, directory) = told.split_once(' ').context("the victim told too little")?;
    Ok((child, pid.parse()?, directory.into()))
}

/// Whether processes of the group are left, zombies not counted: who reaps an orphan is up to the machine.
fn group_lives(group: u32) -> bool {
    let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if test_kill_process_group(pid).is_err() {
        return false;
    }
    // Without a `ps` they cannot be told apart, and a zombie counts.
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pgid=,stat="]).output() else {
        return true;
    };
    let listed = String::from_utf8_lossy(&output.stdout);
    listed.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(&group.to_string()) && words.next().is_some_and(|state| !state.starts_with('Z'))
    })
}

async fn gone(group: u32, directory: &Path) -> Result<()> {
    wait::eventually(
        Duration::from_secs(10),
        "processes and directory to be gone",
        async || match (group_lives(group), directory.exists()) {
            (false, false) => Ok(()),
            (lives, exists) => Err(format!("processes: {lives}, directory: {exists}")),
        },
    )
    .await
}

async fn ends_with_its_parent(end: &str, signal: Option<Signal>) -> Result<()> {
    let (mut parent, group, directory) = start_victim(end)?;
    if let Some(signal) = signal {
        assert!(group_lives(group), "the victim's program does not run");
        assert!(directory.exists());
        kill_process(Pid::from_child(&parent), signal)?;
    }
    parent.wait()?;
    gone(group, &directory).await
}

#[tokio::test]
async fn nothing_survives_a_killed_parent() -> Result<()> {
    ends_with_its_parent("stay", Some(Signal::KILL)).await
}

#[tokio::test]
async fn nothing_survives_an_interrupted_parent() -> Result<()> {
    ends_with_its_parent("stay", Some(Signal::INT)).await
}

#[tokio::test]
async fn nothing_survives_a_parent_that_exits() -> Result<()> {
    ends_with_its_parent("exit", None).await
}

#[tokio::test]
async fn nothing_survives_a_parent_that_returns_or_fails() -> Result<()> {
    ends_with_its_parent("return", None).await?;
    ends_with_its_parent("panic", None).await
}

#[tokio::test]
async fn an_ended_bed_is_empty_and_starts_nothing() -> Result<()> {
    let bed = Bed::new()?;
    let mut sleeper = Command::new("sleep");
    sleeper.arg("1000");
    let process = bed.spawn("sleeper", &sleeper)?;
    assert!(process.is_running());
    bed.end();
    assert!(!bed.directory().exists());
    process.wait_exit(Duration::from_secs(5)).await?;
    assert!(bed.spawn("sleeper", &sleeper).is_err());
    Ok(())
}

#[tokio::test]
async fn a_dropped_process_leaves_no_child_of_its_own() -> Result<()> {
    let bed = Bed::new()?;
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "sleep 1000 & sleep 1000"]);
    let group = bed.spawn("sleeper", &sleeper)?.pid();
    wait::eventually(Duration::from_secs(5), "the group's end", async || {
        (!group_lives(group)).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() -> Result<()> {
    let bed = Bed::new()?;
    let process = bed.spawn("broken", &Command::new("/does/not/exist"))?;
    let ready = process.until_ready(Duration::from_secs(10), async || -> Result<()> {
        Err(anyhow!("not yet"))
    });
    let error = ready
        .await
        .map_err(|error| error.to_string())
        .err()
        .context("it cannot be ready")?;
    assert!(
        error.contains("/does/not/exist") && error.contains("broken.log"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_run_has_input_output_and_status() -> Result<()> {
    let bed = Bed::new()?;
    // More than a pipe holds, so that writing it must not block.
    let input = "line\n".repeat(50_000);
    assert_eq!(bed.run(&Command::new("cat"), &input).await?.checked()?, input);
    let mut failing = Command::new("sh");
    failing.args(["-c", "echo no >&2; exit 3"]);
    let error = bed
        .run(&failing, "")
        .await?
        .checked()
        .map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("exit status: 3: no")));
    Ok(())
}
