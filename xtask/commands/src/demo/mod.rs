//! `cargo xtask demo`: the operator at work, told while it happens.

mod cleanup;
mod promotions;
mod shared;
mod stage;
mod steps;
mod story;

use std::process::ExitCode;

use anyhow::Result;

use self::stage::Stage;
use self::story::Story;

/// Runs everything on this machine and tells what happens, step by step
///
/// Builds or finds the test bed, starts it, and ends it when the story is over. Exits with 1 when a step failed. The last
/// line is `demo: N steps, M failed`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask demo
  cargo xtask demo --keep          and look around with kubectl and the AWS CLI
  cargo xtask demo --fail-step 3   to see what a failed step looks like")]
pub(crate) struct Arguments {
    /// Leave everything running afterwards until Ctrl-C, and print the environment for kubectl and the AWS CLI
    #[arg(long)]
    keep: bool,
    /// Let step K fail, counted from 1, after it was done
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    fail_step: Option<u32>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    // Before the story, so that no step's time is that of a build.
    let program = bed_programs::operator().await?;
    bed_programs::plugin().await?;
    let mut story = Story::new(arguments.fail_step);
    let mut stage = None;
    // A step that others need ends the story when it fails; the line at its end says so.
    steps::tell(&mut story, &mut stage, program).await;
    let succeeded = story.end();
    if let (true, Some(stage)) = (arguments.keep, &stage) {
        keep(stage).await?;
    }
    Ok(if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn keep(stage: &Stage) -> Result<()> {
    println!("\nEverything is left running. In another shell:\n");
    for (name, value) in stage.environment().await? {
        println!("export {name}='{value}'");
    }
    println!(
        "\nLogs and data are in {}. Ctrl-C ends it all.",
        stage.bed.directory().display()
    );
    bed_programs::interruption().await;
    Ok(())
}
