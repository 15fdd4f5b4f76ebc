//! One promotion's part of the world: a repository with images, a workload, and the promotion between them.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Behaviour, Cluster, Operator, Policy, Workloads, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{OWNER, REGION, Scene, Stage, condition, merge, object, tail};

/// How long a rollout may take to become what it is waited for.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// The promotion of a play.
pub(super) const NAME: &str = "app";

/// The pods of the shared cluster.
pub(super) async fn workloads(stage: &'static Stage) -> Result<&'static Workloads> {
    static WORKLOADS: OnceCell<Workloads> = OnceCell::const_new();
    WORKLOADS
        .get_or_try_init(async || stage.cluster.workloads(2).await)
        .await
}

/// The tenant of most scenes, who may promote.
pub(super) fn tenant(scene: &Scene) -> Value {
    let mut tenant = scene.registry_spec()["tenants"][0].clone();
    tenant["may"] = json!(["Manage", "Promote"]);
    tenant
}

/// What managing a registry, its events and promotions need.
pub(super) fn rights(scene: &Scene, region: &str) -> Result<Value> {
    let features = [bed::MANAGES, &["events", "promote"]].concat();
    bed::rights(&scene.account, region, OWNER, &features)
}

/// A source with this policy.
pub(super) fn source(policy: &Value) -> Value {
    json!({ "repositoryRef": { "name": "app" }, "policy": policy })
}

/// The message of the Ready condition.
pub(super) fn ready(status: &Value) -> &str {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] == "Ready")
        .find_map(|condition| condition["message"].as_str())
        .unwrap_or_default()
}

/// The message of the first gate that holds the candidate.
pub(super) fn blocked(status: &Value) -> &str {
    status["blockedBy"][0]["message"].as_str().unwrap_or_default()
}

/// The pods of a cluster of a scenario's own; they last as long as the stage.
pub(super) async fn pods_of(cluster: &Cluster) -> Result<&'static Workloads> {
    Ok(Box::leak(Box::new(cluster.workloads(1).await?)))
}

/// A scene with a repository `app`, and what is promoted from it.
pub(super) struct Play {
    pub(super) scene: Scene,
    pub(super) repository: String,
    /// As it stands in images.
    pub(super) uri: String,
    /// The operator that is meant to act, for its log.
    pub(super) operator: &'static Operator,
    /// The pods of a cluster of its own; the shared one's otherwise.
    pub(super) workloads: Option<&'static Workloads>,
}

impl Play {
    /// On the shared cluster, with the rights that the guide gives.
    pub(super) async fn open(stage: &'static Stage, name: &str) -> Result<Self> {
        workloads(stage).await?;
        Self::open_on(stage, &stage.cluster, name).await
    }

    pub(super) async fn open_on(stage: &'static Stage, cluster: &'static Cluster, name: &str) -> Result<Self> {
        Self::enter(stage.scene_on(cluster, name).await?, json!({})).await
    }

    /// In a scene whose Registry is overlaid so.
    pub(super) async fn enter(scene: Scene, registry: Value) -> Result<Self> {
        scene.role(Policy::Document(rights(&scene, REGION)?)).await?;
        let mut spec = json!({ "tenants": [tenant(&scene)] });
        merge(&mut spec, registry);
        scene.registry(spec).await?;
        let settled = scene.settled("app", json!({})).await?;
        let uri = settled["status"]["uri"].as_str().context("no uri")?.to_owned();
        Ok(Self {
            repository: format!("{}/app", scene.name),
            operator: &scene.stage.operator,
            scene,
            uri,
            workloads: None,
        })
    }

    /// Pushes 1.0.0 and lets a promotion, overlaid so, take it over from the Deployment that runs it.
    pub(super) async fn begin(&self, overlay: Value) -> Result<String> {
        let digest = self.push("1.0.0").await?;
        self.deployment("app", &format!("{}:1.0.0", self.uri)).await?;
        self.promote(overlay).await?;
        self.runs(&digest).await?;
        Ok(digest)
    }

    /// Pushes an image of its own content and gives its digest.
    pub(super) async fn push(&self, tag: &str) -> Result<String> {
        let content = format!("{} {tag}", self.scene.name);
        let digest = self.push_content(tag, &content).await?;
        // What a node would be told by the registry that it pulls the tag from.
        self.pods().await?.tagged(&format!("{}:{tag}", self.uri), &digest);
        Ok(digest)
    }

    /// The pods of the cluster that the play is on.
    async fn pods(&self) -> Result<&'static Workloads> {
        match self.workloads {
            Some(pods) => Ok(pods),
            None => workloads(self.scene.stage).await,
        }
    }

    pub(super) async fn push_content(&self, tag: &str, content: &str) -> Result<String> {
        let aws = &self.scene.stage.aws;
        aws.push_image(&self.scene.account, REGION, &self.repository, tag, content.as_bytes())
            .await
    }

    /// Pushes an index of these images, by platform, and gives its digest.
    pub(super) async fn push_index(&self, tag: &str, images: &[(&str, &str)]) -> Result<String> {
        let ecr = self.scene.ecr().await?;
        let mut manifests = Vec::new();
        for (platform, digest) in images {
            let (os, architecture) = platform.split_once('/').context("no platform")?;
            let id = aws_sdk_ecr::types::ImageIdentifier::builder()
                .image_digest(*digest)
                .build();
            let answer = ecr.batch_get_image().repository_name(&self.repository);
            let answer = answer.image_ids(id).send().await?;
            let image = answer.images().first().context("no image")?;
            let size = image.image_manifest().context("no manifest")?.len();
            manifests.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                "platform": { "os": os, "architecture": architecture },
            }));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests });
        let aws = &self.scene.stage.aws;
        aws.push_manifest(&self.scene.account, REGION, &self.repository, Some(tag), &index)
            .await
    }

    /// An image's scan ends so; `ACTIVE` is a state of Inspector's.
    pub(super) async fn scanned(&self, digest: &str, status: &str, findings: Value) -> Result<()> {
        let mut scan = json!({ "account": self.scene.account, "region": REGION, "repository": self.repository,
            "digest": digest, "status": status });
        let shape = if status == "ACTIVE" {
            "enhancedFindings"
        } else {
            "findings"
        };
        scan[shape] = findings;
        self.scene.stage.aws.finish_scan(&scan).await
    }

    /// Pushes an image that behaves so wherever it runs.
    pub(super) async fn push_bad(&self, tag: &str, behaviour: Behaviour) -> Result<String> {
        self.push_bad_to(self.pods().await?, tag, behaviour).await
    }

    /// The same for the pods of another cluster.
    pub(super) async fn push_bad_to(&self, pods: &Workloads, tag: &str, behaviour: Behaviour) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // The rule must be there before the image is.
        let content = format!("{} {tag}", self.scene.name);
        let hidden = format!("hidden-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let digest = self.push_content(&hidden, &content).await?;
        pods.behave(&digest, behaviour);
        ensure!(
            self.push_content(tag, &content).await? == digest,
            "the same content has another digest"
        );
        Ok(digest)
    }

    pub(super) fn image(&self, digest: &str) -> String {
        format!("{}@{digest}", self.uri)
    }

    /// A Deployment of one container `app`, applied as its owner does, once it is rolled out.
    pub(super) async fn deployment(&self, name: &str, image: &str) -> Result<()> {
        let labels = json!({ "app": name });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "namespace": self.scene.name, "labels": labels },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "app", "image": image }] },
                },
            },
        });
        self.scene.apply(&deployment).await?;
        let what = format!("deployment/{name}");
        self.kubectl(&["rollout", "status", &what, "--timeout=30s"])
            .await
            .map(drop)
    }

    /// A promotion of semantic versions to the Deployment `app`, quick to settle; overlaid with `overlay`.
    pub(super) fn promotion(&self, overlay: Value) -> Value {
        let mut spec = json!({
            "source": { "repositoryRef": { "name": "app" }, "policy": { "semver": { "range": ">=1.0.0" } } },
            "targets": [{ "kind": "Deployment", "name": "app", "containers": ["app"] }],
            "rollout": { "timeout": "20s", "stabilization": "1s" },
            "interval": "30s",
        });
        merge(&mut spec, overlay);
        object("ImagePromotion", NAME, Some(&self.scene.name), spec)
    }

    pub(super) async fn promote(&self, overlay: Value) -> Result<()> {
        self.scene.apply(&self.promotion(overlay)).await.map(drop)
    }

    /// Asks for a look now, as somebody does who does not wait for the interval.
    pub(super) async fn look(&self) -> Result<()> {
        self.ask_for_a_look().await.map(drop)
    }

    /// Asks for a look, and waits until it is over.
    pub(super) async fn looked(&self) -> Result<Value> {
        let token = self.ask_for_a_look().await?;
        self.until("the look to be over", |status| {
            status["lastHandledReconcile"] == token.as_str()
        })
        .await
    }

    async fn ask_for_a_look(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let token = format!("look-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.annotate(&format!("ecr-operator.dev/reconcile={token}")).await?;
        Ok(token)
    }

    /// The candidate, and that it waits for this gate, saying this.
    pub(super) async fn waits(&self, candidate: &str, gate: &str, says: &str) -> Result<Value> {
        let what = format!("{candidate} to wait for {gate}: {says}");
        self.until(&what, |status| {
            status["candidate"]["digest"] == candidate
                && status["blockedBy"][0]["gate"] == gate
                && status["blockedBy"][0]["since"].is_string()
                && blocked(status).contains(says)
        })
        .await
    }

    /// The message of the Ready condition, once it says this.
    pub(super) async fn says(&self, text: &str) -> Result<String> {
        let what = format!("the condition to say {text}");
        let status = self.until(&what, |status| ready(status).contains(text)).await?;
        Ok(ready(&status).to_owned())
    }

    /// A request by annotation.
    pub(super) async fn request(&self, name: &str, value: &str) -> Result<()> {
        self.annotate(&format!("ecr-operator.dev/{name}={value}")).await
    }

    async fn annotate(&self, annotation: &str) -> Result<()> {
        let namespace = &self.scene.name;
        let annotate = [
            "annotate",
            "imagepromotion.ecr-operator.dev",
            NAME,
            "-n",
            namespace,
            "--overwrite",
            annotation,
        ];
        self.scene.cluster.kubectl(&annotate).await?.checked().map(drop)
    }

    pub(super) async fn status(&self) -> Result<Value> {
        Ok(self.scene.get("imagepromotion", NAME).await?["status"].clone())
    }

    /// Waits until the status fulfils a condition, and gives it.
    pub(super) async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        self.eventually(what, async || {
            let status = self.status().await?;
            ensure!(fits(&status), "{status:#}");
            Ok(status)
        })
        .await
    }

    /// Waits until a look succeeds; the error has the end of the operator's log.
    async fn eventually<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        eventually(LIMIT, what, look).await.with_context(|| {
            format!(
                "the operator's log ends with:\n{}",
                tail(&self.operator.process().log())
            )
        })
    }

    /// Waits until this image is current, nothing is under way, and the Deployment runs it.
    pub(super) async fn runs(&self, digest: &str) -> Result<Value> {
        let what = format!("{digest} to be current and at rest");
        self.eventually(&what, async || {
            let status = self.status().await?;
            let is_current = status["current"]["digest"] == digest;
            ensure!(
                is_current && status["rollout"].is_null() && status["phase"].is_string(),
                "{status:#}"
            );
            // The status may be the one from before what was just asked for.
            let image = self.running("app").await?;
            ensure!(image == self.image(digest), "the Deployment runs {image}\n{status:#}");
            Ok(status)
        })
        .await
    }

    /// Waits until this image is rejected, and what was to come of that is done.
    pub(super) async fn taken_back(&self, digest: &str) -> Result<Value> {
        self.until(&format!("{digest} to be taken back"), |status| {
            status["rejected"][0]["digest"] == digest && status["rollout"].is_null()
        })
        .await
    }

    /// The image of the first container of a Deployment.
    pub(super) async fn running(&self, deployment: &str) -> Result<String> {
        let deployment = self.workload("deployment", deployment).await?;
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        image.as_str().map(str::to_owned).ok_or_else(|| anyhow!("no image"))
    }

    pub(super) async fn workload(&self, kind: &str, name: &str) -> Result<Value> {
        self.scene.cluster.get(kind, &self.scene.name, name).await
    }

    pub(super) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = args.to_vec();
        all.extend(["-n", &self.scene.name]);
        self.scene.cluster.kubectl(&all).await?.checked()
    }

    /// Waits for the Ready condition to have this reason.
    pub(super) async fn reason(&self, reason: &str) -> Result<Value> {
        let what = format!("the promotion to be {reason}");
        let object = self.eventually(&what, async || {
            let object = self.scene.get("imagepromotion", NAME).await?;
            let ready = condition(&object, "Ready").ok_or_else(|| anyhow!("no condition yet"))?;
            ensure!(ready["reason"] == reason, "{:#}", object["status"]);
            // Or Argo CD would wait for ever for an object that is blocked.
            let observed = &object["status"]["observedGeneration"];
            ensure!(*observed == object["metadata"]["generation"], "{:#}", object["status"]);
            Ok(object)
        });
        let object = object.await?;
        Ok(condition(&object, "Ready").cloned().unwrap_or_default())
    }
}
