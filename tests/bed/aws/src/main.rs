//! A stand-in for Amazon ECR, STS, IAM and SQS: several accounts and Regions in one process, with rights that are
//! checked, calls that are counted and faults on demand. See README.md.

mod access;
mod answer;
mod calls;
mod cloudtrail;
mod control;
mod credentials;
mod departures;
mod ecr;
mod events;
mod faults;
mod front;
// The operator's own: what it composes and what is carried out here are read by one understanding of AWS's documents, which
// their examples check.
#[path = "../../../../src/document/lifecycle/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the operator compares and composes, too")]
mod lifecycle_policy;
mod plane;
mod principals;
mod registries;
mod serve;
mod sts;
mod target;
mod tokens;
mod world;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::world::World;

/// Amazon ECR, STS, IAM and SQS as one local process to test against.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address of the AWS endpoint; port 0 takes a free one. The control endpoint and the registries' data planes
    /// take free ports on the same host.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(std::io::stderr)
        .init();

    let endpoint = TcpListener::bind(args.listen).await?;
    let control = TcpListener::bind((args.listen.ip(), 0)).await?;
    let ready = serde_json::json!({
        "endpoint": format!("http://{}", endpoint.local_addr()?),
        "control": format!("http://{}", control.local_addr()?),
    });
    let world = Arc::new(World::new(endpoint.local_addr()?));

    let for_calls = Arc::clone(&world);
    let calls = serve::serve(endpoint, move |request| {
        front::signed_call(Arc::clone(&for_calls), request)
    });
    // One line on stdout is the whole interface towards whoever started the program.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;
    tokio::join!(calls, control::serve(control, world)).1
}
