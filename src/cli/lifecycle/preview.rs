//! `ecr-operator lifecycle preview -f FILE [--repository NAME]`

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use indicatif::{BinaryBytes, ProgressBar};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{Format, TO_BE_SEEN_TO, brief, word};
use crate::{
    api::{Repository, lifecycle::Cleanup, names::RepositoryName},
    aws::{
        client::Ecr,
        lifecycle::{Listed, Preview},
    },
    cli::{
        self,
        manifests::Manifests,
        plan::with_files,
        way::{Rights, Way},
    },
    control::gate::Gate,
    controllers::{
        lifecycle::{
            claim::document,
            select::{Meant, PolicyName, Subject},
        },
        repository::cleanup::{Limits, Outcome},
    },
    document::lifecycle::{Action, Policy},
    in_use::Snapshot,
    terminal::{
        self, Outcome as Ended,
        table::{plain, table},
    },
};

/// How many repositories are previewed at once.
const AT_ONCE: usize = 8;

/// How often ECR is asked how far it is.
const POLL: Duration = Duration::from_secs(1);

/// How long ECR may take for one repository, previews of others that it works on included.
const PATIENCE: Duration = Duration::from_mins(5);

/// How many images of a repository are printed for people.
const SHOWN: usize = 20;

/// Prints what the lifecycle policies of the given manifests would do now to each repository that they mean, as ECR itself
/// works it out. No policy and no image is changed; only ECR's last preview of a repository is replaced by this one. The
/// cluster is read for the Repositories that the policies mean and for what runs; the files win where both have an object.
/// Needs read rights and ecr:StartLifecyclePolicyPreview.
///
/// Exit code: 0 nothing stands against it, 2 a guard would hold a policy back, or it would act on an image in use, 1 an error.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A manifest in YAML or JSON, a directory with such (read recursively), or - for standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// Only this repository, by its name in ECR or that of its object.
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,

    /// The namespace of manifests that name none. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    #[command(flatten)]
    rights: Rights,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A policy and a repository that it means.
#[derive(Clone, Debug)]
struct Job {
    policy: String,
    document: Policy,
    limits: Option<Limits>,
    protect: bool,
    registry: String,
    repository: RepositoryName,
}

/// What a policy would do to a repository.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Previewed {
    policy: String,
    repository: String,
    images: u64,
    images_to_expire: u64,
    images_to_archive: u64,
    bytes: u64,
    /// The limit of the guard that is exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    guarded: Option<String>,
    /// Images in use that lack the tag that keeps them. The operator puts it before the policy.
    kept: Vec<Acted>,
    acts_on: Vec<Acted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An image that a policy would act on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Acted {
    digest: String,
    tags: Vec<String>,
    action: &'static str,
    rule_priority: u32,
    in_use: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    previews: Vec<Previewed>,
    /// Why it is not known of all images whether they are in use.
    unknown: Vec<String>,
}

pub(super) fn main(args: &Args) -> Ended {
    let report = terminal::block_on(run(args))?;
    terminal::print(&match args.output {
        Format::Text => report.text(),
        Format::Json => super::json(&report)?,
    })?;
    let failed = report.previews.iter().any(|preview| preview.error.is_some());
    let stands_against =
        |preview: &Previewed| preview.guarded.is_some() || preview.acts_on.iter().any(|image| image.in_use);
    Ok(match report.previews.iter().any(stands_against) {
        _ if failed => ExitCode::FAILURE,
        true => ExitCode::from(TO_BE_SEEN_TO),
        false => ExitCode::SUCCESS,
    })
}

async fn run(args: &Args) -> Result<Report, String> {
    let client = cli::gated(terminal::cluster().await?, &Gate::closed())?;
    let namespace = args.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let manifests = Manifests::read(&args.files, &namespace)?;
    let mut jobs = jobs(&client, &manifests, args.repository.as_deref()).await?;
    jobs.sort_by(|a, b| (&a.policy, &a.repository).cmp(&(&b.policy, &b.repository)));

    let mut ways: HashMap<String, (Way, Snapshot)> = HashMap::new();
    let mut unknown = Vec::new();
    for job in &jobs {
        if !ways.contains_key(&job.registry) {
            let way = Way::open(&client, &job.registry, &args.rights).await?;
            let in_use = way.snapshot(&client).await;
            unknown.extend(in_use.gaps.iter().cloned());
            ways.insert(job.registry.clone(), (way, in_use));
        }
    }
    let bar = ProgressBar::new(u64::try_from(jobs.len()).unwrap_or_default()).with_message("previews");
    let previews = jobs.iter().filter_map(|job| {
        let (way, in_use) = ways.get(&job.registry)?;
        let bar = &bar;
        Some(async move {
            let preview = preview(job, way, in_use).await;
            bar.inc(1);
            preview
        })
    });
    let previews = stream::iter(previews).buffered(AT_ONCE).collect().await;
    bar.finish_and_clear();
    unknown.dedup();
    Ok(Report { previews, unknown })
}

/// The policies of the files, each with the repositories that it means.
async fn jobs(client: &Client, manifests: &Manifests, only: Option<&str>) -> Result<Vec<Job>, String> {
    if manifests.lifecycle_policies.is_empty() && manifests.cluster_lifecycle_policies.is_empty() {
        return Err("the files hold no LifecyclePolicy and no ClusterLifecyclePolicy".into());
    }
    let repositories = with_files::<Repository>(client, &manifests.repositories).await?;
    let namespaces = namespaces(client, manifests).await?;
    let mut jobs = Vec::new();
    let mut add = |policy: PolicyName, cleanup: &Cleanup, meant: Meant<'_>, within: Option<&str>| {
        let document = document(cleanup).map_err(|error| format!("{policy}: {error}"))?;
        for repository in &repositories {
            let namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
            let Ok(name) = repository.repository_name() else {
                continue;
            };
            let subject = Subject {
                name: &name,
                labels: repository.labels(),
                namespace: namespaces.get(namespace),
            };
            let is_asked_for = only.is_none_or(|only| only == name.as_str() || only == repository.name_any());
            let is_meant = within.is_none_or(|within| within == namespace) && meant.rank(subject).is_some();
            if is_asked_for && is_meant {
                jobs.push(Job {
                    policy: policy.to_string(),
                    document: document.clone(),
                    limits: Limits::of(cleanup),
                    protect: cleanup.protect_in_use,
                    registry: repository.spec.registry_ref.name.clone(),
                    repository: name,
                });
            }
        }
        Ok::<_, String>(())
    };
    for policy in &manifests.lifecycle_policies {
        let name = PolicyName::Namespaced(policy.name_any());
        let within = policy.metadata.namespace.as_deref();
        add(name, &policy.spec.cleanup, Meant::of(policy), within)?;
    }
    for policy in &manifests.cluster_lifecycle_policies {
        let name = PolicyName::Cluster(policy.name_any());
        add(name, &policy.spec.cleanup, Meant::of_cluster(policy), None)?;
    }
    if let (true, Some(only)) = (jobs.is_empty(), only) {
        return Err(format!("the policies of the files mean no repository {only}"));
    }
    Ok(jobs)
}

/// The labels of all namespaces, those of the files in place of those of the cluster.
async fn namespaces(
    client: &Client,
    manifests: &Manifests,
) -> Result<HashMap<String, BTreeMap<String, String>>, String> {
    let all = Api::<Namespace>::all(client.clone());
    let listed = all
        .list_metadata(&ListParams::default())
        .await
        .map_err(|error| format!("the namespaces could not be listed: {error}"))?;
    let given = manifests.namespaces.iter().map(|namespace| &namespace.metadata);
    let all = listed.items.iter().map(|namespace| &namespace.metadata).chain(given);
    Ok(all
        .map(|meta| {
            let name = meta.name.clone().unwrap_or_default();
            (name, meta.labels.clone().unwrap_or_default())
        })
        .collect())
}

async fn preview(job: &Job, way: &Way, in_use: &Snapshot) -> Previewed {
    let mut previewed = Previewed {
        policy: job.policy.clone(),
        repository: job.repository.to_string(),
        ..Previewed::default()
    };
    let doomed = match timeout(PATIENCE, ask(&way.ecr, job)).await {
        Ok(Ok(doomed)) => doomed,
        Ok(Err(error)) => {
            previewed.error = Some(error);
            return previewed;
        }
        Err(_) => {
            previewed.error = Some(format!("ECR did not answer within {} minutes", PATIENCE.as_secs() / 60));
            return previewed;
        }
    };
    let uses = in_use.usage.get(&job.repository);
    let is_used = |image: &Listed| uses.is_some_and(|uses| uses.include(&image.digest, &image.tags));
    let (kept, doomed): (Vec<Listed>, Vec<Listed>) =
        doomed.into_iter().partition(|image| job.protect && is_used(image));
    let meant = |digest: &str| doomed.iter().any(|image| image.digest == digest);
    let stock = match way.ecr.stock(&job.repository, meant).await {
        Ok(stock) => stock,
        Err(error) => {
            previewed.error = Some(error.to_string());
            return previewed;
        }
    };
    let acted = |image: &Listed| Acted {
        digest: image.digest.clone(),
        tags: image.tags.clone(),
        action: word(image.action),
        rule_priority: image.rule,
        in_use: is_used(image),
    };
    previewed.kept = kept.iter().map(acted).collect();
    previewed.acts_on = doomed.iter().map(acted).collect();
    let outcome = Outcome {
        doomed,
        in_use: Vec::new(),
        stock,
        at: Timestamp::now(),
    };
    previewed.images = stock.images;
    previewed.bytes = stock.bytes;
    previewed.images_to_expire = outcome.count(Action::Expire);
    previewed.images_to_archive = outcome.count(Action::Archive);
    previewed.guarded = job.limits.and_then(|limits| limits.exceeded(&outcome));
    previewed
}

/// What ECR says. A preview has no name: one of somebody else that took the place of ours is told by its text.
async fn ask(ecr: &Ecr, job: &Job) -> Result<Vec<Listed>, String> {
    let text = job.document.to_text();
    loop {
        let started = ecr.start_preview(&job.repository, &text).await;
        if !started.map_err(|error| error.to_string())? {
            sleep(POLL).await;
            continue;
        }
        loop {
            match ecr.preview(&job.repository).await.map_err(|error| error.to_string())? {
                Preview::Running => sleep(POLL).await,
                Preview::Ended(why) => return Err(format!("ECR could not work it out: {why}")),
                Preview::Done { text, doomed } => {
                    if Policy::parse(&text).is_ok_and(|policy| policy.means_the_same(&job.document)) {
                        return Ok(doomed);
                    }
                    break;
                }
            }
        }
    }
}

impl Report {
    fn text(&self) -> String {
        if self.previews.is_empty() {
            return "the policies mean no repository\n".to_owned();
        }
        let header = ["POLICY", "REPOSITORY", "IMAGES", "EXPIRE", "ARCHIVE", "SIZE", "GUARD"];
        let rows = self.previews.iter().map(|preview| {
            let number = |number: u64| match preview.error {
                Some(_) => "-".to_owned(),
                None => number.to_string(),
            };
            [
                preview.policy.clone(),
                preview.repository.clone(),
                number(preview.images),
                number(preview.images_to_expire),
                number(preview.images_to_archive),
                BinaryBytes(preview.bytes).to_string(),
                match (&preview.error, &preview.guarded) {
                    (Some(error), _) => error.clone(),
                    (None, Some(limit)) => format!("holds it back: {limit}"),
                    (None, None) => "lets it pass".into(),
                },
            ]
        });
        let mut text = table(&header, rows);
        for preview in &self.previews {
            let images: Vec<&Acted> = preview.acts_on.iter().chain(&preview.kept).collect();
            if images.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{} ({})", plain(&preview.repository), plain(&preview.policy));
            let kept = preview
                .kept
                .iter()
                .map(|image| image.digest.as_str())
                .collect::<Vec<_>>();
            let rows = images.iter().take(SHOWN).map(|image| {
                [
                    brief(&image.digest),
                    match image.tags.is_empty() {
                        true => "-".into(),
                        false => image.tags.join(", "),
                    },
                    image.action.to_owned(),
                    image.rule_priority.to_string(),
                    match (image.in_use, kept.contains(&image.digest.as_str())) {
                        (true, true) => "in use: gets its tag first, and stays".into(),
                        (true, false) => "in use, and not protected".into(),
                        (false, _) => String::new(),
                    },
                ]
            });
            text += &table(&["DIGEST", "TAGS", "ACTION", "RULE", ""], rows);
            if let more @ 1.. = images.len().saturating_sub(SHOWN) {
                let _ = writeln!(text, "and {more} more; --output json has all");
            }
        }
        for unknown in &self.unknown {
            let _ = writeln!(text, "not known: {}", plain(unknown));
        }
        text
    }
}
