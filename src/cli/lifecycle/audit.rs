//! `ecr-operator lifecycle audit --registry NAME`

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Format, TO_BE_SEEN_TO, brief, forecast, word};
use crate::{
    api::names::RepositoryName,
    aws::error::Fault,
    cli::{
        self,
        way::{Rights, Way},
    },
    control::gate::Gate,
    document::lifecycle::{Image, Policy},
    in_use::Uses,
    terminal::{
        self, Outcome,
        table::{plain, table},
    },
};

/// How many repositories are read at once.
const AT_ONCE: usize = 4;

/// Prints which images that run, or would, the lifecycle policies in force will expire or archive, and when, if nothing is
/// pushed meanwhile. What runs is read from the workloads of this cluster and the reports of all clusters; the policies and
/// the images are read from ECR. Needs read rights only, and no running operator.
///
/// Exit code: 0 none goes, 2 some do, 1 an error, or not everything could be read.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The Registry of the cluster whose images are looked at.
    #[arg(long, value_name = "NAME")]
    registry: String,

    /// How far to look ahead, in days. 0: what ECR does within a day.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(0..=3_650))]
    within_days: u32,

    #[command(flatten)]
    rights: Rights,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Audit {
    /// Images in use that are in the registry.
    images: usize,
    /// Repositories that they are in.
    repositories: usize,
    /// Those of them that have no lifecycle policy.
    without_policy: usize,
    /// Clusters that report what they use.
    reports: usize,
    within_days: u32,
    goes: Vec<Goes>,
    /// Why this is not the whole answer.
    unknown: Vec<String>,
}

/// An image in use that a policy acts on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Goes {
    repository: String,
    digest: String,
    tags: Vec<String>,
    action: &'static str,
    rule_priority: u32,
    /// Days from now. 0: within a day.
    in_days: u32,
    /// When it becomes due. ECR acts within a day after.
    due: Timestamp,
    /// It has no tag: where an index lists it that stays, it stays too.
    perhaps_of_an_index: bool,
}

/// What was found of one repository.
struct Found {
    images: usize,
    has_policy: bool,
    goes: Vec<Goes>,
}

pub(super) fn main(args: &Args) -> Outcome {
    let audit = terminal::block_on(audit(args))?;
    terminal::print(&match args.output {
        Format::Text => audit.text(),
        Format::Json => super::json(&audit)?,
    })?;
    Ok(match (audit.unknown.is_empty(), audit.goes.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(TO_BE_SEEN_TO),
        (true, true) => ExitCode::SUCCESS,
    })
}

async fn audit(args: &Args) -> Result<Audit, String> {
    let client = cli::gated(terminal::cluster().await?, &Gate::closed())?;
    let way = Way::open(&client, &args.registry, &args.rights).await?;
    let in_use = way.snapshot(&client).await;
    let now = Timestamp::now();
    let mut audit = Audit {
        reports: in_use.clusters,
        within_days: args.within_days,
        unknown: in_use.gaps,
        ..Audit::default()
    };
    let reads = in_use.usage.iter().map(|(name, uses)| {
        let way = &way;
        async move { (name, look(way, name, uses, now, args.within_days).await) }
    });
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some((name, found)) = reads.next().await {
        match found {
            Ok(found) => audit.take(found),
            Err(why) => audit.unknown.push(format!("{name}: {why}")),
        }
    }
    audit.goes.sort_by(|a, b| {
        let key = |goes: &Goes| (goes.in_days, goes.repository.clone(), goes.digest.clone());
        key(a).cmp(&key(b))
    });
    audit.unknown.sort_unstable();
    Ok(audit)
}

async fn look(way: &Way, name: &RepositoryName, uses: &Uses, now: Timestamp, within: u32) -> Result<Found, String> {
    let images = match way.ecr.images_by_age(name).await {
        Ok(images) => images,
        // It cannot lose what it does not hold.
        Err(error) if error.fault == Fault::NotFound => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    let in_use: BTreeSet<String> = images
        .iter()
        .filter(|image| uses.include(&image.digest, &image.tags))
        .map(|image| image.digest.clone())
        .collect();
    let mut found = Found {
        images: in_use.len(),
        has_policy: false,
        goes: Vec::new(),
    };
    if in_use.is_empty() {
        return Ok(found);
    }
    let Some(text) = way.ecr.lifecycle(name).await.map_err(|error| error.to_string())? else {
        return Ok(found);
    };
    found.has_policy = true;
    let policy = Policy::parse(&text).map_err(|error| format!("its lifecycle policy cannot be read: {error}"))?;
    for fate in forecast::fates(&policy, &images, &in_use, now, within) {
        let tags = images
            .iter()
            .find(|image: &&Image| image.digest == fate.digest)
            .map(|image| image.tags.clone())
            .unwrap_or_default();
        found.goes.push(Goes {
            repository: name.to_string(),
            perhaps_of_an_index: tags.is_empty(),
            tags,
            digest: fate.digest,
            action: word(fate.action),
            rule_priority: fate.rule,
            in_days: fate.days,
            due: now + SignedDuration::from_hours(24 * i64::from(fate.days)),
        });
    }
    Ok(found)
}

impl Audit {
    fn take(&mut self, found: Found) {
        if found.images == 0 {
            return;
        }
        self.images += found.images;
        self.repositories += 1;
        self.without_policy += usize::from(!found.has_policy);
        self.goes.extend(found.goes);
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} images in use in {} repositories, {} of them without a lifecycle policy; {} clusters report what they use\n",
            self.images, self.repositories, self.without_policy, self.reports
        );
        if self.goes.is_empty() {
            let _ = writeln!(text, "none is expired or archived within {} days", self.within_days);
        } else {
            let header = ["REPOSITORY", "DIGEST", "TAGS", "ACTION", "RULE", "DUE", ""];
            let rows = self.goes.iter().map(|goes| {
                [
                    goes.repository.clone(),
                    brief(&goes.digest),
                    match goes.tags.is_empty() {
                        true => "-".into(),
                        false => goes.tags.join(", "),
                    },
                    goes.action.to_owned(),
                    goes.rule_priority.to_string(),
                    match goes.in_days {
                        0 => "now".to_owned(),
                        days => format!("in {days} days, {}", goes.due.strftime("%Y-%m-%d")),
                    },
                    match goes.perhaps_of_an_index {
                        true => "unless an index that stays lists it".into(),
                        false => String::new(),
                    },
                ]
            });
            text += &table(&header, rows);
        }
        for unknown in &self.unknown {
            let _ = writeln!(text, "not known: {}", plain(unknown));
        }
        text
    }
}
