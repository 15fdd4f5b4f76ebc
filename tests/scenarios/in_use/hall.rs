//! A cluster with an operator that looks often at what is in use, and parts of it for one scenario each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, ImageStatusFilter, TargetStorageClass};
use bed::{Cluster, Operator, Policy, eventually};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{OWNER, REGION, Scene, Stage, condition, merge, object, tail};

/// How often the operators look at what is in use.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// How long anything may take: some things take several intervals.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

pub(super) const REPORTS: &str = "ecr-operator/in-use";

/// The tag that keeps an image.
pub(super) fn in_use(digest: &str) -> String {
    digest.replacen("sha256:", "in-use.", 1)
}

pub(super) struct Hall {
    stage: &'static Stage,
    cluster: &'static Cluster,
    pub(super) operator: Operator,
}

impl Hall {
    /// The one that most scenarios share.
    pub(super) async fn shared(stage: &'static Stage) -> Result<&'static Self> {
        static SHARED: OnceCell<&'static Hall> = OnceCell::const_new();
        let open = async || {
            let hall = Self::open(stage, "in-use").await?;
            crate::support::lasts(hall.cluster);
            anyhow::Ok(hall)
        };
        SHARED.get_or_try_init(open).await.copied()
    }

    /// One whose operator may be killed. It ends with the scenario.
    pub(super) async fn open(stage: &'static Stage, name: &str) -> Result<&'static Self> {
        Self::open_with(stage, name, &format!("{}s", INTERVAL.as_secs())).await
    }

    /// The same with an operator that looks each `interval`.
    pub(super) async fn open_with(stage: &'static Stage, name: &str, interval: &str) -> Result<&'static Self> {
        let cluster = stage.bare_cluster().await?;
        let args = ["--in-use-interval", interval];
        let operator = stage.operator_with(name, cluster, OWNER, &args).await?;
        Ok(Box::leak(Box::new(Self {
            stage,
            cluster,
            operator,
        })))
    }

    /// A registry with a repository `web` whose images in use are protected.
    pub(super) async fn part(&'static self, name: &str) -> Result<Part> {
        self.part_with(name, json!({ "deletionPolicy": "DeleteWithImages" }))
            .await
    }

    /// The same with a repository overlaid so.
    pub(super) async fn part_with(&'static self, name: &str, repository: Value) -> Result<Part> {
        let scene = self.stage.scene_on(self.cluster, name).await?;
        scene
            .rights(&[bed::MANAGES, &["protect", "promote", "events"]].concat())
            .await?;
        let mut tenant = scene.registry_spec()["tenants"][0].clone();
        tenant["may"] = json!(["Manage", "Promote"]);
        scene.registry(json!({ "tenants": [tenant] })).await?;
        let settled = scene.settled("web", repository).await?;
        let uri = settled["status"]["uri"].as_str().context("no uri")?.to_owned();
        let part = Part {
            hall: self,
            repository: format!("{name}/web"),
            scene,
            uri,
        };
        self.can_run_pods(name).await?;
        Ok(part)
    }

    async fn can_run_pods(&self, namespace: &str) -> Result<()> {
        can_run_pods(self.cluster, namespace).await
    }

    async fn apply(&self, manifest: &Value) -> Result<()> {
        apply(self.cluster, manifest).await
    }

    /// A Registry here that only observes that of a part, with the rights that the guide gives for that.
    pub(super) async fn observe(&self, part: &Part) -> Result<()> {
        let scene = &part.scene;
        let role = observer(scene).await?;
        let mut spec = scene.registry_spec();
        merge(
            &mut spec,
            json!({ "mode": "Observe", "assumeRole": { "roleArn": role } }),
        );
        self.apply(&object("Registry", &scene.name, None, spec)).await?;
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": scene.name } });
        self.apply(&namespace).await?;
        self.can_run_pods(&scene.name).await
    }

    /// A pod here, in the namespace of a part.
    pub(super) async fn pod_of(&self, part: &Part, image: &str) -> Result<()> {
        self.apply(&pod(&part.scene.name, "runner", image)).await
    }
}

/// A role in the account of a scene with the rights that the guide gives for observing and reporting; gives its ARN.
pub(crate) async fn observer(scene: &Scene) -> Result<String> {
    let looks = bed::rights(&scene.account, REGION, OWNER, &["read"])?;
    let mut statements = looks["Statement"].as_array().cloned().context("no statements")?;
    let guide = std::fs::read_to_string(bed::root().join("docs/guides/iam.md"))?;
    let reports = guide
        .split("```json\n")
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains("\"Report\""));
    let reports = reports
        .context("no rights to report")?
        .replace("111122223333", &scene.account);
    let policy: Value = serde_json::from_str(&reports)?;
    statements.extend(policy["Statement"].as_array().cloned().unwrap_or_default());
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": "100000000000" }, "Action": "sts:AssumeRole" }]});
    let policy = Policy::Document(json!({ "Version": "2012-10-17", "Statement": statements }));
    scene
        .stage
        .aws
        .role(&scene.account, "ecr-operator-observer", policy, trust)
        .await?;
    Ok(format!("arn:aws:iam::{}:role/ecr-operator-observer", scene.account))
}

/// Lets pods be made: there is no controller manager that would make the ServiceAccount.
pub(super) async fn can_run_pods(cluster: &Cluster, namespace: &str) -> Result<()> {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "default", "namespace": namespace } });
    apply(cluster, &account).await
}

async fn apply(cluster: &Cluster, manifest: &Value) -> Result<()> {
    let manifest = manifest.to_string();
    let applied = cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest);
    applied.await?.checked().map(drop)
}

pub(super) fn pod(namespace: &str, name: &str, image: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "app", "image": image }] } })
}

/// One scenario's registry, namespace and repository.
pub(super) struct Part {
    hall: &'static Hall,
    pub(super) scene: Scene,
    pub(super) repository: String,
    pub(super) uri: String,
}

impl Part {
    pub(super) fn by(&self, digest: &str) -> String {
        format!("{}@{digest}", self.uri)
    }

    /// Has the Registry listen to a queue of events, for which it is looked at.
    pub(super) async fn listen(&self) -> Result<()> {
        let hidden = Duration::from_mins(5);
        let queue = self
            .scene
            .stage
            .aws
            .event_queue(&self.scene.account, REGION, hidden)
            .await?;
        self.scene
            .apply_registry(json!({ "events": { "queueUrl": queue.url } }))
            .await?;
        self.until("the queue to be read", async || {
            let registry = self.scene.get("registry", &self.scene.name).await?;
            ensure!(
                registry["status"]["events"]["listening"] == true,
                "{:#}",
                registry["status"]
            );
            Ok(())
        })
        .await
    }

    pub(super) async fn push(&self, tag: &str) -> Result<String> {
        let content = format!("{} {tag}", self.scene.name);
        let aws = &self.scene.stage.aws;
        aws.push_image(&self.scene.account, REGION, &self.repository, tag, content.as_bytes())
            .await
    }

    /// Pushes another image by a tag that exists.
    pub(super) async fn push_other(&self, tag: &str) -> Result<String> {
        let aws = &self.scene.stage.aws;
        aws.push_image(&self.scene.account, REGION, &self.repository, tag, b"another")
            .await
    }

    pub(super) async fn push_index(&self, tag: &str, child: &str) -> Result<String> {
        let size = self.manifest(&self.repository, child).await?.len();
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": size,
            "platform": { "os": "linux", "architecture": "amd64" },
        }]});
        let aws = &self.scene.stage.aws;
        aws.push_manifest(&self.scene.account, REGION, &self.repository, Some(tag), &index)
            .await
    }

    pub(super) async fn pod(&self, name: &str, image: &str) -> Result<()> {
        self.hall.apply(&pod(&self.scene.name, name, image)).await
    }

    pub(super) async fn apply(&self, version: &str, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let object = json!({ "apiVersion": version, "kind": kind,
            "metadata": { "name": name, "namespace": self.scene.name }, "spec": spec });
        self.hall.apply(&object).await
    }

    pub(super) async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let delete = ["delete", kind, name, "-n", &self.scene.name];
        self.scene.cluster.kubectl(&delete).await?.checked().map(drop)
    }

    /// The images of the repository, by digest, with their tags.
    pub(super) async fn images(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let all = DescribeImagesFilter::builder()
            .image_status(ImageStatusFilter::Any)
            .build();
        let answer = self
            .scene
            .ecr()
            .await?
            .describe_images()
            .repository_name(&self.repository);
        let answer = answer.filter(all).send().await?;
        let images = answer.image_details.unwrap_or_default().into_iter();
        Ok(images
            .filter_map(|image| Some((image.image_digest?, image.image_tags.unwrap_or_default())))
            .collect())
    }

    pub(super) async fn is_tagged(&self, digest: &str) -> Result<bool> {
        let images = self.images().await?;
        let tags = images
            .get(digest)
            .with_context(|| format!("{digest} is gone: {images:?}"))?;
        Ok(tags.contains(&in_use(digest)))
    }

    async fn until(&self, what: &str, fits: impl AsyncFn() -> Result<()>) -> Result<()> {
        let found = eventually(LIMIT, what, fits).await;
        found.with_context(|| {
            let log = self.hall.operator.process().log();
            let ours: Vec<&str> = log.lines().filter(|line| line.contains(&self.scene.name)).collect();
            format!("the operator's log ends with:\n{}", tail(&ours.join("\n")))
        })
    }

    /// A policy by which images in use are kept and images of more than 30 days go, whatever the guard would say.
    pub(super) async fn cleaned_by(&self, policy: &str) -> Result<()> {
        let rule = json!({ "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days",
            "countNumber": 30 }, "action": { "type": "expire" } });
        let spec = json!({ "repositorySelector": {}, "guard": { "mode": "Disabled" }, "rules": [rule] });
        let policy = object("LifecyclePolicy", policy, Some(&self.scene.name), spec);
        self.scene.apply(&policy).await.map(drop)
    }

    /// Waits for a policy that keeps images in use to be in force.
    pub(super) async fn is_cleaned(&self) -> Result<()> {
        let ecr = self.scene.ecr().await?;
        self.until("the policy", async || {
            let put = ecr.get_lifecycle_policy().repository_name(&self.repository);
            let put = put.send().await?;
            let text = put.lifecycle_policy_text().unwrap_or_default();
            ensure!(text.contains("in-use."), "{text}");
            Ok(())
        })
        .await
    }

    /// Waits until the Repository is reported with this reason, which of a suspended one its `Ready` does not show.
    pub(super) async fn is(&self, reason: &str) -> Result<()> {
        self.until(&format!("the Repository to be {reason}"), async || {
            let object = self.scene.get("repository", "web").await?;
            let told = condition(&object, "Reconciling").context("no condition yet")?;
            let current = told["observedGeneration"] == object["metadata"]["generation"];
            ensure!(current && told["reason"] == reason, "{told}");
            Ok(())
        })
        .await
    }

    /// Whether any policy is in force.
    pub(super) async fn has_policy(&self) -> Result<bool> {
        let get = self.scene.ecr().await?.get_lifecycle_policy();
        match get.repository_name(&self.repository).send().await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_lifecycle_policy_not_found_exception() => Ok(false),
                _ => Err(error.into()),
            },
        }
    }

    /// How often the operator made a call.
    pub(super) async fn made(&self, operation: &str) -> Result<usize> {
        let calls = self.scene.operators_calls().await?;
        Ok(calls.get(operation).copied().unwrap_or_default())
    }

    pub(super) async fn has_tag(&self, digest: &str) -> Result<()> {
        self.until(&format!("{digest} to have its tag"), async || {
            ensure!(self.is_tagged(digest).await?, "{:?}", self.images().await?);
            Ok(())
        })
        .await
    }

    /// Waits until no image has the tag that kept this one.
    pub(super) async fn lost_tag(&self, digest: &str) -> Result<()> {
        self.until(&format!("{digest} to lose its tag"), async || {
            let images = self.images().await?;
            ensure!(
                !images.values().flatten().any(|tag| *tag == in_use(digest)),
                "{images:?}"
            );
            Ok(())
        })
        .await
    }

    pub(super) async fn untag(&self, tag: &str) -> Result<()> {
        let id = ImageIdentifier::builder().image_tag(tag).build();
        let request = self.scene.ecr().await?.batch_delete_image();
        let answer = request.repository_name(&self.repository).image_ids(id).send().await?;
        ensure!(answer.failures().is_empty(), "{:?}", answer.failures());
        Ok(())
    }

    async fn manifest(&self, repository: &str, digest_or_tag: &str) -> Result<String> {
        let id = match digest_or_tag.contains(':') {
            true => ImageIdentifier::builder().image_digest(digest_or_tag).build(),
            false => ImageIdentifier::builder().image_tag(digest_or_tag).build(),
        };
        let request = self.scene.ecr().await?.batch_get_image();
        let answer = request.repository_name(repository).image_ids(id).send().await?;
        let image = answer.images.unwrap_or_default().pop().context("no such image")?;
        image.image_manifest.context("no manifest")
    }

    /// Puts a tag on an image, as somebody does by hand.
    pub(super) async fn put(&self, digest: &str, tag: &str) -> Result<()> {
        let manifest = self.manifest(&self.repository, digest).await?;
        self.put_manifest(&manifest, tag).await
    }

    /// Puts so many more tags on an image.
    pub(super) async fn tag_often(&self, digest: &str, times: usize) -> Result<()> {
        let manifest = self.manifest(&self.repository, digest).await?;
        let puts = (0..times).map(|number| {
            let (tag, manifest) = (format!("t{number}"), &manifest);
            async move { self.put_manifest(manifest, &tag).await }
        });
        let puts: Vec<Result<()>> = stream::iter(puts).buffer_unordered(16).collect().await;
        puts.into_iter().collect()
    }

    /// Moves an image to the archive.
    pub(super) async fn archive(&self, digest: &str) -> Result<()> {
        let archive = self.scene.ecr().await?.update_image_storage_class();
        archive
            .repository_name(&self.repository)
            .image_id(ImageIdentifier::builder().image_digest(digest).build())
            .target_storage_class(TargetStorageClass::Archive)
            .send()
            .await?;
        Ok(())
    }

    async fn put_manifest(&self, manifest: &str, tag: &str) -> Result<()> {
        let put = self.scene.ecr().await?.put_image().repository_name(&self.repository);
        put.image_manifest(manifest)
            .image_manifest_media_type("application/vnd.oci.image.manifest.v1+json")
            .image_tag(tag)
            .send()
            .await?;
        Ok(())
    }

    /// Moves a tag to the parking manifest, as an operator does that dies right after.
    pub(super) async fn park(&self, tag: &str) -> Result<()> {
        let source = std::fs::read_to_string(bed::root().join("src/aws/parking.rs"))?;
        let manifest = source.split("r#\"").nth(1).and_then(|rest| rest.split("\"#").next());
        let aws = &self.scene.stage.aws;
        aws.push_blob(&self.scene.account, REGION, &self.repository, b"{}")
            .await?;
        self.put_manifest(manifest.context("no manifest")?, tag).await
    }

    /// What the cluster has reported of the repository.
    pub(super) async fn reported(&self) -> Result<BTreeSet<String>> {
        let get = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"];
        let uid = self.scene.cluster.kubectl(&get).await?.checked()?;
        let tag = format!("{}.{}.{REGION}", uid.trim(), self.scene.account);
        let report: Value = serde_json::from_str(&self.manifest(REPORTS, &tag).await?)?;
        let key = format!("dev.ecr-operator.in-use.repository/{}", self.repository);
        let names = report["annotations"][key].as_str().unwrap_or_default();
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    pub(super) async fn unreported(&self, digest: &str) -> Result<()> {
        self.until("the report not to name it", async || {
            ensure!(!self.reported().await?.contains(digest));
            Ok(())
        })
        .await
    }

    /// Waits until there is a repository of reports.
    pub(super) async fn is_open(&self) -> Result<()> {
        self.until("a repository of reports", async || {
            ensure!(self.scene.exists(REPORTS).await?);
            Ok(())
        })
        .await
    }

    /// A report as others than operators publish it.
    pub(super) async fn publish(&self, cluster: &str, time: &str, digests: &[&str]) -> Result<()> {
        let mut annotations = json!({
            "dev.ecr-operator.in-use.version": "1",
            "dev.ecr-operator.in-use.cluster": cluster,
            "dev.ecr-operator.in-use.owner": "job",
            "dev.ecr-operator.in-use.published": time,
        });
        if !digests.is_empty() {
            annotations[format!("dev.ecr-operator.in-use.repository/{}", self.repository)] = digests.join(" ").into();
        }
        self.push_report(cluster, &annotations).await
    }

    pub(super) async fn push_report(&self, cluster: &str, annotations: &Value) -> Result<()> {
        let aws = &self.scene.stage.aws;
        let empty = aws.push_blob(&self.scene.account, REGION, REPORTS, b"{}").await?;
        let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.ecr-operator.in-use.v1+json", "config": empty, "layers": [empty],
            "annotations": annotations });
        aws.push_manifest(&self.scene.account, REGION, REPORTS, Some(cluster), &manifest)
            .await
            .map(drop)
    }

    pub(super) async fn delete_report(&self, cluster: &str) -> Result<()> {
        let id = ImageIdentifier::builder().image_tag(cluster).build();
        let request = self.scene.ecr().await?.batch_delete_image();
        request.repository_name(REPORTS).image_ids(id).send().await?;
        Ok(())
    }

    /// Waits for the Registry to say this of images in use.
    pub(super) async fn says(&self, text: &str) -> Result<()> {
        self.until(&format!("the Registry to say {text}"), async || {
            let registry = self.scene.get("registry", &self.scene.name).await?;
            let message = registry["status"]["inUse"]["message"].as_str().unwrap_or_default();
            ensure!(message.contains(text), "{:#}", registry["status"]);
            Ok(())
        })
        .await
    }

    /// Waits for an Event on the Registry.
    pub(super) async fn told(&self, reason: &str, says: &str) -> Result<()> {
        self.until(&format!("an Event {reason}"), async || {
            let notes = self.scene.cluster_events(&self.scene.name, reason).await?;
            ensure!(notes.iter().any(|note| note.contains(says)), "{notes:?}");
            Ok(())
        })
        .await
    }

    /// A Deployment that names an image by its tag, and a promotion that writes its digest there.
    pub(super) async fn promotion(&self, tag: &str) -> Result<()> {
        let labels = json!({ "app": "app" });
        let template = json!({ "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "app", "image": format!("{}:{tag}", self.uri) }] } });
        let spec = json!({ "selector": { "matchLabels": labels }, "template": template });
        self.apply("apps/v1", "Deployment", "app", &spec).await?;
        let promotion = json!({
            "source": { "repositoryRef": { "name": "web" }, "policy": { "semver": { "range": ">=1.0.0" } } },
            "targets": [{ "kind": "Deployment", "name": "app", "containers": ["app"] }],
        });
        self.hall
            .apply(&object("ImagePromotion", "app", Some(&self.scene.name), promotion))
            .await
    }

    /// Waits until the Deployment names the image by its digest.
    pub(super) async fn runs(&self, digest: &str) -> Result<()> {
        self.until("the Deployment to name the digest", async || {
            let deployment = self.scene.cluster.get("deployment", &self.scene.name, "app").await?;
            let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
            ensure!(*image == self.by(digest), "{image}");
            Ok(())
        })
        .await
    }
}
