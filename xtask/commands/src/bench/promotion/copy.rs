//! `ecr-operator copy` beside a plain client.
//!
//! The plain client is curl: for each layer one process that downloads and, through a pipe, one that uploads, as many
//! layers at once as `copy` takes. It keeps nothing, checks no digest, and looks for nothing that is there already.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::BlobWay;
use futures::stream::{self, TryStreamExt as _};
use serde_json::json;

use super::super::figures::{Figures, rounded};
use super::super::measured::Measured;
use super::super::stage::{ACCOUNT, REGION};
use super::super::usage::{Usage, megabytes};
use super::world::World;

const ELSEWHERE: &str = "us-east-1";
const LAYERS: u32 = 8;
/// What `copy` takes by default.
const AT_ONCE: usize = 4;
const MIB: usize = 1024 * 1024;

const SOURCE: &str = "bench-copy/source";
const OURS: &str = "bench-copy/ours";
const PLAIN: &str = "bench-copy/plain";

/// How often the memory of the process is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn measure(world: &World, mib: u32) -> Result<Measured> {
    let aws = &world.stage.aws;
    for (region, name) in [(REGION, SOURCE), (ELSEWHERE, OURS), (ELSEWHERE, PLAIN)] {
        let ecr = aws.ecr(region, &aws.admin(ACCOUNT).await?);
        ecr.create_repository().repository_name(name).send().await?;
    }
    let layers = fill(world, mib).await?;
    let size: u64 = layers.iter().map(|(_, size)| size).sum();
    let before = world.stage.reading().await?;
    let (ours, usage) = by_operator(world).await?;
    let figures = Figures::between(&before, &world.stage.reading().await?);
    let plain = by_curl(world, &layers).await?;
    let figures = Figures {
        seconds: ours,
        ..figures
    };
    let rate = |seconds: f64| rounded(megabytes(size) / seconds);
    Ok(Measured { count: 1, figures }
        .with("mib", mib)
        .with("layers", LAYERS)
        .with("mb_per_second", rate(ours))
        .with("plain_client", "curl")
        .with("plain_seconds", rounded(plain))
        .with("plain_mb_per_second", rate(plain))
        .with("copy_peak_rss_mb", rounded(usage.peak_rss_mb))
        .with("copy_cpu_seconds", rounded(usage.cpu_seconds)))
}

/// Pushes an image that cannot be compressed; gives the digests and sizes of its layers.
async fn fill(world: &World, mib: u32) -> Result<Vec<(String, u64)>> {
    let aws = &world.stage.aws;
    let length = usize::try_from(mib / LAYERS)? * MIB;
    let mut layers = Vec::new();
    for seed in 1..=LAYERS {
        let digest = aws
            .push_blob(ACCOUNT, REGION, SOURCE, &noise(seed.into(), length))
            .await?;
        layers.push((digest, u64::try_from(length)?));
    }
    let config = aws.push_blob(ACCOUNT, REGION, SOURCE, b"{}").await?;
    let descriptor = |kind: &str, digest: &str, size: u64| json!({ "mediaType": kind, "digest": digest, "size": size });
    let of_layer = |(digest, size): &(String, u64)| descriptor("application/vnd.oci.image.layer.v1.tar", digest, *size);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config, 2),
        "layers": layers.iter().map(of_layer).collect::<Vec<_>>(),
    });
    aws.push_manifest(ACCOUNT, REGION, SOURCE, Some("v1"), &manifest)
        .await?;
    Ok(layers)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = Vec::with_capacity(length);
    while noise.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(length);
    noise
}

async fn by_operator(world: &World) -> Result<(f64, Usage)> {
    let aws = &world.stage.aws;
    let uri = |region: &str, rest: &str| format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{rest}");
    let mut command = Command::new(&world.stage.program);
    command
        .args(["copy", &uri(REGION, &format!("{SOURCE}:v1")), &uri(ELSEWHERE, OURS)])
        .envs(aws.admin(ACCOUNT).await?.environment())
        .env("AWS_ENDPOINT_URL", aws.endpoint())
        .env("AWS_REGION", REGION);
    let start = Instant::now();
    let process = world.stage.bed.spawn("copy", &command)?;
    let mut usage = Usage::default();
    let status = loop {
        // The kernel forgets the peak with the process: what is told is that of the last look.
        if let Ok(seen) = Usage::of(process.pid()) {
            usage = seen;
        }
        if let Some(status) = process.exit_status() {
            break status;
        }
        tokio::time::sleep(LOOK).await;
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), process.failure("it should have copied the image"));
    Ok((seconds, usage))
}

async fn by_curl(world: &World, layers: &[(String, u64)]) -> Result<f64> {
    let aws = &world.stage.aws;
    let start = Instant::now();
    stream::iter(layers.iter().map(anyhow::Ok))
        .try_for_each_concurrent(AT_ONCE, async |(digest, _)| {
            let way = aws
                .blob_way(ACCOUNT, (REGION, SOURCE), (ELSEWHERE, PLAIN), digest)
                .await?;
            pipe(&way).await.with_context(|| format!("curl of {digest}"))
        })
        .await?;
    Ok(start.elapsed().as_secs_f64())
}

async fn pipe(way: &BlobWay) -> Result<()> {
    let authorization = format!("Authorization: {}", way.authorization);
    let curl = || {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--noproxy", "*", "-sSf", "-H", &authorization])
            .kill_on_drop(true);
        curl
    };
    let mut download = curl().args(["-L", &way.download]).stdout(Stdio::piped()).spawn()?;
    let content: Stdio = download.stdout.take().context("curl has no output")?.try_into()?;
    let upload = curl()
        .args([
            "-X",
            "PATCH",
            "-T",
            "-",
            "-o",
            "/dev/null",
            "-H",
            "Content-Type: application/octet-stream",
        ])
        .args(["-H", "Expect:", &way.upload])
        .stdin(content)
        .status()
        .await?;
    ensure!(download.wait().await?.success() && upload.success(), "curl failed");
    let finished = curl()
        .args(["-X", "PUT", "-o", "/dev/null", "-H", "Content-Length: 0", &way.finish])
        .status()
        .await?;
    ensure!(finished.success(), "curl could not finish the upload");
    Ok(())
}
