//! What the engine asks to be read, read.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{Api, ResourceExt as _, api::ListParams, core::Selector};
use serde_json::Value;

use super::{Run, act::workloads, way::Way};
use crate::{
    api::{
        names::{Digest, Tag},
        promotion::{ImageStatus, Target, Via},
    },
    aws::{
        error::{AwsError, Fault},
        images::ImageRef,
    },
    control::{
        error::{Error, Result},
        events::{News, cut},
    },
    promotion::{
        facts::{Origin, Presence, Selection, Storage, TargetFacts},
        ledger,
        moves::{Look, TargetName},
        select::{self, InvalidPolicy, Ranking},
        via,
        workload::{self, Limits},
    },
};

/// How many workloads one selector may mean.
const SELECTED: u32 = 50;

/// How many workloads one promotion moves; the status lists them all.
const MOST_TARGETS: usize = 100;

/// The longest name that a status takes.
const LONGEST_NAME: usize = 250;

/// How many pods of one workload are looked at: enough to find those that fail.
const PODS: u32 = 500;

/// How long ECR may take to say whether an image is there to which a failed rollout goes back.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many reads of the apiserver run at once for one promotion.
const READS: usize = 8;

impl Run<'_> {
    pub(super) async fn look(&mut self, look: Look) -> Result<()> {
        match look {
            Look::Targets => self.look_at_targets().await,
            Look::Baseline => self.look_at_baseline().await,
            Look::Selection => self.look_at_selection().await,
            Look::Gates(image) => self.look_at_gates(&image).await,
            Look::Regression(image) => self.look_at_regression(&image).await,
            Look::Presence(digest) => self.look_at_presence(digest).await,
            Look::Named(name) => self.look_for_named(name).await,
            Look::Copy(image) => self.look_at_copy(&image),
            Look::Check { index, rollout } => self.look_at_check(index, rollout).await,
        }
    }

    /// The way to the repositories; the engine is not asked without one.
    pub(super) fn place(&self) -> Result<&Way> {
        self.way.as_ref().map_err(|verdict| Error::Refused {
            what: "go on".into(),
            why: verdict.to_string(),
        })
    }

    pub(super) fn tell(&self, news: News, reason: &'static str, note: String) {
        use kube::Resource as _;
        self.ctx.events.tell(self.object.object_ref(&()), news, reason, note);
    }

    fn limits(&self) -> Limits {
        Limits {
            max_restarts: self.object.spec.rollout.max_restarts,
            since: self.status.rollout.as_ref().map(|rollout| rollout.started_at),
        }
    }

    pub(super) async fn look_at_targets(&mut self) -> Result<()> {
        let place = self.place()?;
        let (client, namespace) = (self.ctx.client.clone(), place.namespace.clone());
        let targets = self.object.spec.targets.clone();
        let found: Vec<Vec<(TargetName, Target, Option<Value>)>> = stream::iter(targets)
            .map(|target| read(client.clone(), namespace.clone(), target))
            .buffered(READS)
            .try_collect()
            .await?;
        self.objects.clear();
        let mut facts = Vec::new();
        for (name, target, object) in found.into_iter().flatten() {
            // Two entries may mean one workload; the first of them counts.
            if facts.iter().any(|known: &TargetFacts| known.is(&name)) {
                continue;
            }
            let Some(object) = object else {
                facts.push(TargetFacts {
                    kind: name.kind,
                    name: name.name,
                    via: target.via,
                    written: None,
                    found: None,
                });
                continue;
            };
            let pods = match self.status.rollout {
                Some(_) => pods(client.clone(), &namespace, &object).await?,
                None => Vec::new(),
            };
            self.pods.insert(name.clone(), pods);
            let seen = self.read(&name, &target, &object);
            let written = match target.via {
                Via::Auto | Via::Direct => seen.digest.clone(),
                Via::Publish => self.status.published.clone(),
                _ => self.written_via(&target).await?,
            };
            facts.push(TargetFacts {
                kind: name.kind,
                name: name.name.clone(),
                via: target.via,
                written,
                found: Some(seen),
            });
            self.objects.insert(name, (target, object));
        }
        if facts.len() > MOST_TARGETS {
            return Err(Error::Refused {
                what: "find the targets".into(),
                why: format!("spec.targets means more than {MOST_TARGETS} workloads; use several promotions"),
            });
        }
        self.facts.targets = Some(facts);
        Ok(())
    }

    fn read(&self, name: &TargetName, target: &Target, object: &Value) -> crate::promotion::facts::Found {
        let uris = self.way.as_ref().map(Way::uris).unwrap_or_default();
        let none = Vec::new();
        let pods = self.pods.get(name).unwrap_or(&none);
        workload::read(target, object, pods, &uris, self.limits())
    }

    /// Takes in what a write to a workload has answered.
    pub(super) fn saw(&mut self, name: &TargetName, object: &Value) {
        let Some((target, _)) = self.objects.get(name).cloned() else {
            return;
        };
        let found = self.read(name, &target, object);
        if let Some(entry) = self.facts.target_mut(name) {
            if matches!(target.via, Via::Auto | Via::Direct) {
                entry.written.clone_from(&found.digest);
            }
            entry.found = Some(found);
        }
        self.objects.insert(name.clone(), (target, object.clone()));
    }

    /// The digest in the object that the owner of a workload reads.
    async fn written_via(&self, target: &Target) -> Result<Option<Digest>> {
        let (Some(via_ref), Some(kind)) = (&target.via_ref, via::object_kind(target.via)) else {
            return Ok(None);
        };
        let place = self.place()?;
        let namespace = via_ref.namespace.as_deref().unwrap_or(&place.namespace);
        let object = self
            .via_objects(kind, namespace)
            .get_opt(&via_ref.name)
            .await
            .map_err(|error| Error::write(&format!("{} {namespace}/{}", kind.kind, via_ref.name), error))?;
        let object = object.and_then(|object| serde_json::to_value(object).ok());
        Ok(object
            .filter(|object| via::permits(object, &place.namespace))
            .and_then(|object| via::read(target.via, via_ref, &object, &place.runs().uri)))
    }

    /// What the targets run that no promotion has brought there: by the digests in their templates, or else by what the
    /// nodes say that their pods run. A tag is not looked up: it may have moved since the pods were started.
    async fn look_at_baseline(&mut self) -> Result<()> {
        let facts = self.facts.targets.as_deref().unwrap_or_default();
        let written: Vec<Option<Digest>> = facts
            .iter()
            .map(|target| target.found.as_ref().and_then(|found| found.digest.clone()))
            .collect();
        let all = match written.iter().all(Option::is_some) {
            true => same(written.into_iter()),
            false => self.running().await?,
        };
        self.facts.baseline = Some(match all {
            None => Origin::None,
            Some(digest) => self.origin(digest).await?,
        });
        Ok(())
    }

    /// The digest that the nodes say all pods of all targets run in the selected containers.
    async fn running(&self) -> Result<Option<Digest>> {
        let place = self.place()?;
        let uris = place.uris();
        let mut digests = Vec::new();
        for (target, object) in self.objects.values() {
            let pods = pods(self.ctx.client.clone(), &place.namespace, object).await?;
            let selected = workload::selected(target, object, &uris);
            digests.push(workload::running(&selected, &pods, &uris));
        }
        Ok(same(digests.into_iter()))
    }

    /// An image that was found on the targets. One that the repository does not name by a tag, and that is no index, may be
    /// the part of an index that one node has pulled: pinned, it would keep the pods from all other platforms.
    async fn origin(&self, digest: Digest) -> Result<Origin> {
        let is_written = self.facts.targets.iter().flatten().all(|target| {
            let found = target.found.as_ref().and_then(|found| found.digest.as_ref());
            found == Some(&digest)
        });
        let image = match self.image(self.place()?.runs(), ImageRef::Digest(digest.clone())).await {
            Ok(image) => image,
            Err(_) if is_written => return Ok(Origin::Image(ledger::nameless(digest))),
            Err(error) => return Err(error.into()),
        };
        Ok(match image {
            Some(image) if is_written || image.is_index || !image.tags.is_empty() => {
                Origin::Image(status_of(&image, None))
            }
            None if is_written => Origin::Image(ledger::nameless(digest)),
            Some(_) | None => Origin::None,
        })
    }

    async fn look_at_selection(&mut self) -> Result<()> {
        self.facts.selection = Some(match self.select().await {
            Ok(selection) => selection,
            // The running image is none the worse for it: what can be done without the registry is done.
            Err(Error::Aws(error)) => Selection::Unknown(unread(&error)),
            Err(error) => return Err(error),
        });
        Ok(())
    }

    async fn select(&mut self) -> Result<Selection> {
        let place = &self.place()?.source;
        if let Some(unready) = &place.unready {
            return Ok(Selection::Unknown(unready.clone()));
        }
        let mut ranking = match self.rank().await? {
            Ok(ranking) => ranking,
            Err(wrong) => return Ok(Selection::Nothing(wrong.to_string())),
        };
        let spec = &self.object.spec;
        if spec.source.platforms.is_empty() {
            return Ok(match ranking.candidates.first() {
                Some(image) => Selection::Picked(image.clone()),
                None => Selection::Nothing(ranking.nothing(&spec.source)),
            });
        }
        for candidate in std::mem::take(&mut ranking.candidates) {
            match self.lacks(&candidate.digest).await? {
                None => return Ok(Selection::Picked(candidate)),
                Some(reason) => ranking.passed_over.insert(
                    0,
                    select::PassedOver {
                        name: candidate.name.clone(),
                        reason,
                    },
                ),
            }
        }
        ranking.passed_over.truncate(5);
        Ok(Selection::Nothing(ranking.nothing(&spec.source)))
    }

    /// The images in the order in which the policy wants them.
    async fn rank(&mut self) -> Result<Result<Ranking, InvalidPolicy>> {
        let policy = &self.object.spec.source.policy;
        let named = policy.digest.clone().map(ImageRef::Digest);
        if let Some(named) = named.or_else(|| policy.tag.as_ref().map(|tag| ImageRef::Tag(tag.name.clone()))) {
            // One image is asked for: the whole repository need not be known, and the answer is of now.
            let image = self.image(&self.place()?.source, named).await?;
            return Ok(select::rank(&self.object.spec.source, image, self.rejected()));
        }
        let images = self.images().await?;
        if let Some(current) = self
            .status
            .current
            .as_ref()
            .filter(|_| self.object.spec.copy_to.is_none())
        {
            let presence = presence_of(images.image(&current.digest).as_ref());
            self.facts.running = Some((current.digest.clone(), presence));
        }
        Ok(select::rank(&self.object.spec.source, images.images(), self.rejected()))
    }

    fn rejected(&self) -> impl Fn(&Digest) -> bool {
        |digest| ledger::is_rejected(&self.object.spec, &self.status, digest)
    }

    /// Whether an image that is to run again is still there. The registry is asked, but not waited for.
    async fn look_at_presence(&mut self, digest: Digest) -> Result<()> {
        let place = self.place()?;
        // What is pinned is copied first; what is gone back to must be where it ran.
        let is_pinned = self.object.spec.pin.as_ref().is_some_and(|pin| pin.digest == digest);
        let place = if is_pinned { &place.source } else { place.runs() };
        let asked = self.image(place, ImageRef::Digest(digest.clone()));
        let presence = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(image)) => presence_of(image.as_ref()),
            Ok(Err(_)) | Err(_) => Presence::Unknown,
        };
        self.facts.presence = Some((digest, presence));
        Ok(())
    }

    async fn look_for_named(&mut self, name: String) -> Result<()> {
        let place = &self.place()?.source;
        let (image, tag) = match (name.parse::<Digest>(), name.parse::<Tag>()) {
            (Ok(digest), _) => (ImageRef::Digest(digest), None),
            (_, Ok(tag)) => (ImageRef::Tag(tag.clone()), Some(tag)),
            (Err(_), Err(wrong)) => {
                self.facts.named = Some((name, Err(wrong.to_string())));
                return Ok(());
            }
        };
        let described = place.ecr()?.describe_image(&place.name, &image).await?;
        let found = match described {
            None => Err(format!("the repository has no image {name}")),
            Some(image) if !image.can_run() => Err(format!("{name} is no image that could run")),
            Some(image) if image.storage != Storage::Active => Err(format!("{name} is archived; restore it first")),
            Some(image) => match self.lacks(&image.digest).await? {
                Some(lacks) if !self.object.spec.source.platforms.is_empty() => Err(format!("{name} {lacks}")),
                _ => Ok(status_of(&image.into(), tag)),
            },
        };
        self.facts.named = Some((name, found));
        Ok(())
    }
}

/// The one digest that all of them are, if so.
fn same(mut digests: impl Iterator<Item = Option<Digest>>) -> Option<Digest> {
    let first = digests.next()??;
    digests.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// Whether an image that the registry tells of, or not, can be pulled.
fn presence_of(image: Option<&crate::promotion::facts::Image>) -> Presence {
    match image.map(|image| image.storage) {
        None => Presence::Gone,
        Some(Storage::Active) => Presence::There,
        Some(Storage::Archived | Storage::Activating) => Presence::Archived,
    }
}

/// An image for the status: by the tag under which it was found, or by its first one.
fn status_of(image: &crate::promotion::facts::Image, tag: Option<Tag>) -> ImageStatus {
    let tag = tag.or_else(|| image.tags.first().cloned());
    ImageStatus {
        name: tag
            .as_ref()
            .map_or_else(|| image.digest.short().to_owned(), ToString::to_string),
        digest: image.digest.clone(),
        tag,
        pushed_at: Some(image.pushed_at),
        since: None,
    }
}

/// Why the registry could not be read, in words that depend on the cause alone.
pub(super) fn unread(error: &AwsError) -> String {
    let why = match error.fault {
        Fault::Denied => "the right is missing",
        Fault::NotFound => "it does not exist",
        Fault::Throttled => "AWS asks for fewer calls",
        _ => "AWS does not answer as expected",
    };
    format!(
        "the images of the repository could not be read by {}: {why}",
        error.operation
    )
}

/// The workloads that a target means.
async fn read(
    client: kube::Client,
    namespace: String,
    target: Target,
) -> Result<Vec<(TargetName, Target, Option<Value>)>> {
    let api = workloads(client, &namespace, target.kind);
    let entry = |name: String, object: Option<Value>| {
        let name = TargetName {
            kind: target.kind,
            name,
        };
        (name, target.clone(), object)
    };
    if let Some(name) = &target.name {
        let object = api
            .get_opt(name)
            .await
            .map_err(Error::kube("read a target of the promotion"))?;
        let object = object.and_then(|object| serde_json::to_value(object).ok());
        return Ok(vec![entry(name.clone(), object)]);
    }
    let selector = target.selector.clone().unwrap_or_default();
    let selector = Selector::try_from(selector).map_err(|error| Error::Refused {
        what: "find the targets".into(),
        why: format!("the selector is not valid: {error}"),
    })?;
    let params = ListParams::default().labels_from(&selector).limit(SELECTED);
    let list = api
        .list(&params)
        .await
        .map_err(Error::kube("list the targets of the promotion"))?;
    if list.metadata.continue_.is_some_and(|more| !more.is_empty()) {
        return Err(Error::Refused {
            what: "find the targets".into(),
            why: format!("more than {SELECTED} workloads have the labels of one selector; narrow it"),
        });
    }
    let mut found: Vec<_> = list
        .items
        .into_iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
        .map(|object| entry(object.name_any(), serde_json::to_value(object).ok()))
        .collect();
    if found.is_empty() {
        let mut what = format!("any with the labels {selector}");
        cut(&mut what, LONGEST_NAME);
        found.push(entry(what, None));
    }
    Ok(found)
}

/// The pods that a workload selects.
async fn pods(client: kube::Client, namespace: &str, object: &Value) -> Result<Vec<Value>> {
    let selector: Option<LabelSelector> = serde_json::from_value(object["spec"]["selector"].clone()).ok();
    // A CronJob has none; an empty one would mean every pod of the namespace.
    let selector = selector.filter(|selector| selector.match_labels.is_some() || selector.match_expressions.is_some());
    let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) else {
        return Ok(Vec::new());
    };
    let params = ListParams::default().labels_from(&selector).limit(PODS);
    let list = Api::<Pod>::namespaced(client, namespace)
        .list(&params)
        .await
        .map_err(Error::kube("list the pods of a target"))?;
    Ok(list
        .items
        .iter()
        .filter_map(|pod| serde_json::to_value(pod).ok())
        .collect())
}
