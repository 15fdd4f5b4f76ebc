//! `ecr-operator copy SRC DST`

use crate::api::names::Digest;
use std::{process::ExitCode, sync::Arc, time::Instant};

use clap::ValueEnum;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    api::{
        names::RoleArn,
        registry::{AssumeRole, RegistryMode, RegistrySpec, documents::RegistryDocuments},
    },
    aws::{connect, pace::Pace},
    control::gate::Gate,
    http,
    metrics::Metrics,
    oci::{
        copy::{self, Copied, Options},
        destination::{Destination, MoveTag, PUT_IMAGE, TagWish},
        plane::{Place, Plane},
        progress::{Phase, Progress, Teller},
        reference::{ImageReference, RegistryHost},
    },
    terminal::{self, Outcome},
};

/// Manifests a second, which is half of what ECR takes of an account: CI needs them too.
const PUT_IMAGE_PER_SECOND: f64 = 5.0;

/// Copies an image with everything that belongs to it: all platforms of an index, attestations, and the signatures and
/// bills of material that are kept as referrers or under the tags of cosign. Digests stay as they are. What is at the
/// destination already is not sent again, so a copy that was cut off goes on when the command is repeated.
///
/// Credentials are found as AWS's own tools find them, in the environment, profiles or on the machine.
///
/// Exit code: 0 the image is there, 1 an error.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image, such as 111122223333.dkr.ecr.eu-west-1.amazonaws.com/team/app:v1, by tag or @digest.
    #[arg(value_name = "SRC")]
    source: ImageReference,

    /// Where it goes: a repository that exists, and a tag. Without a tag, that of SRC is kept; where SRC has none, the image
    /// gets none.
    #[arg(value_name = "DST")]
    destination: ImageReference,

    /// A role to assume for reading.
    #[arg(long, value_name = "ARN")]
    source_role_arn: Option<RoleArn>,

    /// The external id that this role asks for.
    #[arg(long, value_name = "ID", requires = "source_role_arn")]
    source_external_id: Option<String>,

    /// A role to assume for writing.
    #[arg(long, value_name = "ARN")]
    destination_role_arn: Option<RoleArn>,

    /// The external id that this role asks for.
    #[arg(long, value_name = "ID", requires = "destination_role_arn")]
    destination_external_id: Option<String>,

    /// Move the tag of DST if it is on this image now. A tag that is on any other image is never moved.
    #[arg(long, value_name = "DIGEST")]
    move_tag_from: Option<Digest>,

    /// Leave out signatures, attestations and bills of material that are not part of the index itself.
    #[arg(long)]
    no_referrers: bool,

    /// How many layers travel at once. 1 to 32.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    concurrency: u8,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How the outcome is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON document, once the copy is done.
    Json,
}

/// What was done, for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    source: String,
    destination: String,
    digest: String,
    seconds: f64,
    #[serde(flatten)]
    copied: Copied,
}

pub(super) fn main(args: &Args) -> Outcome {
    terminal::block_on(run(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &Args) -> Result<(), String> {
    let started = Instant::now();
    let (source, destination) = places(args).await?;
    let digest = match (&args.source.digest, &args.source.tag) {
        (Some(digest), _) => digest.clone(),
        (None, Some(tag)) => copy::resolve(&source, tag).await.map_err(|error| error.to_string())?,
        (None, None) => {
            return Err(format!("SRC {} names no image: add :TAG or @DIGEST", args.source));
        }
    };
    if let Some(wanted) = args.destination.digest.as_ref().filter(|wanted| **wanted != digest) {
        return Err(format!(
            "DST asks for {wanted}, but SRC is {digest}, and copying changes no digest: leave @DIGEST out of DST"
        ));
    }
    if args.output == Format::Text {
        terminal::print(&format!("{} is {digest}\n", args.source))?;
    }
    let tag = args.destination.tag.clone().or(args.source.tag.clone());
    let wishes: Vec<TagWish> = tag.clone().into_iter().map(|tag| wish(args, tag)).collect();

    let (teller, progress) = Teller::new();
    let options = Options {
        concurrency: args.concurrency.into(),
        referrers: !args.no_referrers,
        teller,
    };
    let bar = tokio::spawn(show(progress));
    let copied = copy::copy(&source, &destination, &digest, &wishes, &options).await;
    // The last teller: it ends the bar.
    drop(options);
    // The bar is for looking at; that it broke is no reason to fail.
    let _ = bar.await;
    let report = Report {
        source: args.source.to_string(),
        destination: ImageReference {
            tag,
            digest: Some(digest.clone()),
            ..args.destination.clone()
        }
        .to_string(),
        digest: digest.to_string(),
        seconds: started.elapsed().as_secs_f64(),
        copied: copied.map_err(|error| error.to_string())?,
    };
    terminal::print(&match args.output {
        Format::Text => report.text(),
        Format::Json => report.json()?,
    })
    .map(drop)
}

fn wish(args: &Args, tag: crate::api::names::Tag) -> TagWish {
    let mut wish = TagWish::new(tag);
    if let Some(from) = &args.move_tag_from {
        wish.moving = MoveTag::IfCurrently(from.clone());
    }
    wish
}

/// The ways to both repositories; one, if they are in one registry and the same credentials lead there.
async fn places(args: &Args) -> Result<(Place, Destination), String> {
    let http = http::client().map_err(|error| error.to_string())?;
    let metrics = Metrics::new();
    let role = |arn: &Option<RoleArn>, external_id: &Option<String>| {
        arn.clone().map(|role_arn| AssumeRole {
            role_arn,
            external_id: external_id.clone(),
        })
    };
    let source_role = role(&args.source_role_arn, &args.source_external_id);
    let destination_role = role(&args.destination_role_arn, &args.destination_external_id);
    let open = async |name: &str, host: &RegistryHost, assume_role: Option<AssumeRole>| {
        let spec = RegistrySpec {
            region: host.region.clone(),
            registry_id: host.account.clone(),
            assume_role,
            endpoints: None,
            // Nothing is written by this client; images travel over the data plane.
            mode: RegistryMode::Observe,
            tenants: Vec::new(),
            creation_defaults: None,
            takeover: None,
            in_use: None,
            budget: None,
            pull: None,
            replication: None,
            documents: RegistryDocuments::default(),
            events: None,
            suspend: false,
        };
        let (ecr, _) = connect::open(name, &spec, Gate::open(), metrics.clone()).await;
        Plane::new(http.clone(), ecr, host.clone(), Gate::open())
    };
    let (from, to) = (&args.source.host, &args.destination.host);
    let source = open("source", from, source_role.clone()).await;
    let destination = match from == to && source_role == destination_role {
        true => source.clone(),
        false => open("destination", to, destination_role).await,
    };
    Ok((
        Place {
            plane: source,
            repository: args.source.repository.clone(),
        },
        Destination {
            place: Place {
                plane: destination,
                repository: args.destination.repository.clone(),
            },
            pace: Arc::new(Pace::with_budget(PUT_IMAGE, PUT_IMAGE_PER_SECOND)),
        },
    ))
}

/// Draws the bar, on a terminal only, until the copy ends.
async fn show(mut progress: watch::Receiver<Progress>) {
    let bar = ProgressBar::new(0);
    // The template is ours; should it be wrong, the default one is drawn.
    if let Ok(style) = ProgressStyle::with_template(
        "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
    ) {
        bar.set_style(style.progress_chars("=> "));
    }
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        bar.set_length(now.bytes_total);
        bar.set_position(now.bytes_done);
        bar.set_message(match now.phase {
            Phase::Reading => "reading".to_owned(),
            Phase::Copying => format!("copying {} of {}", now.blobs_done, now.blobs_total),
            Phase::Tagging => "tagging".to_owned(),
            Phase::Done => "done".to_owned(),
        });
    }
    bar.finish_and_clear();
}

impl Report {
    fn text(&self) -> String {
        let Copied {
            bytes,
            blobs,
            sent,
            mounted,
            skipped,
            elsewhere,
            manifests,
            manifests_skipped,
            referrers,
            tags,
            warnings,
        } = &self.copied;
        let mut text = format!(
            "{} is there\n\
             blobs: {blobs}: {sent} sent ({}), {mounted} mounted, {skipped} there before, {elsewhere} kept elsewhere\n\
             manifests: {manifests} put, {manifests_skipped} there before; {referrers} of them referrers\n\
             tags set: {}\n",
            self.destination,
            BinaryBytes(*bytes),
            match tags.is_empty() {
                true => "none".to_owned(),
                false => tags.join(", "),
            },
        );
        for warning in warnings {
            text.push_str("warning: ");
            text.push_str(warning);
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| format!("the outcome could not be written as JSON: {error}"))
    }
}
