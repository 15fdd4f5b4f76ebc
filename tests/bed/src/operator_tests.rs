//! The operator's environment, with a program that pretends to be one.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::cluster::ControlPlane;

/// Answers every request with 200 and its own environment.
#[test]
#[ignore = "run by the other test, as the operator"]
fn pretender() -> Result<()> {
    let Ok(listen) = std::env::var("PRETENDER_LISTEN") else {
        return Ok(());
    };
    let environment: Vec<String> = std::env::vars()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    let environment = environment.concat();
    for stream in TcpListener::bind(listen)?.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        let mut request = BufReader::new(stream.try_clone()?);
        while request.read_line(&mut line)? > 2 {
            line.clear();
        }
        let length = environment.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{environment}"
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_runs_as_its_service_account_and_restarts() -> Result<()> {
    let bed = Bed::new()?;
    let control_plane = ControlPlane::start(&bed).await?;
    let (cluster, aws) = tokio::try_join!(control_plane.bare_cluster("main"), Aws::start(&bed))?;
    let objects = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}\n---\n\
         {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {SERVICE_ACCOUNT}, namespace: {NAMESPACE}}}}}\n"
    );
    cluster
        .kubectl_with_input(&["apply", "-f", "-"], &objects)
        .await?
        .checked()?;

    let binary = bed.directory().join("pretender");
    let own = std::env::current_exe()?;
    let script = "--exact operator::tests::pretender --ignored --nocapture";
    fs::write(
        &binary,
        format!("#!/bin/sh\nPRETENDER_LISTEN=$5 exec '{}' {script}\n", own.display()),
    )?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o700))?;

    let options = OperatorOptions {
        binary,
        owner_id: "test".to_owned(),
        principal: aws.admin("111122223333").await?,
        region: "eu-west-1".to_owned(),
        env: BTreeMap::from([("RUST_LOG".to_owned(), "debug".to_owned())]),
        gateway: None,
        args: vec![],
    };
    let operator = Operator::start("operator", &cluster, &aws, options).await?;
    let environment = operator.metrics().await?;
    for wanted in [
        format!("AWS_ENDPOINT_URL={}", aws.endpoint()),
        format!("HOME={}", bed.directory().join("home").display()),
        "AWS_REGION=eu-west-1".to_owned(),
        "RUST_LOG=debug".to_owned(),
    ] {
        assert!(
            environment.lines().any(|line| line == wanted),
            "{wanted} is not in {environment}"
        );
    }
    assert!(
        !environment.lines().any(|line| line.starts_with("AWS_CA_BUNDLE=")),
        "{environment}"
    );

    let first = operator.process().pid();
    operator.stop().await?;
    assert!(!operator.process().is_running());
    operator.restart().await?;
    assert_ne!(operator.process().pid(), first);
    // One that ends by itself, and badly, comes back.
    operator.process().signal(Signal::TERM)?;
    bed_programs::eventually(READY_LIMIT, "it to come back", async || {
        anyhow::ensure!(operator.restarts() == 1);
        operator.metrics().await
    })
    .await?;
    operator.kill();
    bed_programs::throughout(KEEP_INTERVAL * 5, "being down", async || {
        anyhow::ensure!(operator.metrics().await.is_err() && operator.restarts() == 1);
        Ok(())
    })
    .await?;
    operator.restart().await?;
    cluster.stop();
    bed_programs::eventually(READY_LIMIT, "it to end with its cluster", async || {
        anyhow::ensure!(!operator.process().is_running());
        Ok(())
    })
    .await?;
    bed_programs::throughout(KEEP_INTERVAL * 5, "being down", async || {
        anyhow::ensure!(!operator.process().is_running() && operator.restarts() == 1);
        Ok(())
    })
    .await
}
