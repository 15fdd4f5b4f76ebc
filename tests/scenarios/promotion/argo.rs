//! Argo CD owns the workload and heals it by itself: the refusal, the fight, the peace, and a rollback that stays.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{ARGO_CD_NAMESPACE, Application, ApplicationStatus, ArgoCd, Behaviour, Cluster, eventually, throughout};
use serde_json::{Value, json};

use super::play::{NAME, Play};
use crate::support::{OWNER, Stage, condition, ends, run};

/// How long Argo CD may take for anything: it waits longer before each time it heals.
const LIMIT: Duration = Duration::from_mins(3);

/// How long nothing must happen to count as peace.
const QUIET: Duration = Duration::from_secs(5);

struct Theatre {
    play: Play,
    argo: ArgoCd,
}

impl Theatre {
    async fn open(stage: &'static Stage, name: &str) -> Result<Self> {
        let cluster = ends(stage.control_plane.cluster(name).await?);
        let chart = bed::root().join("charts/ecr-operator");
        let values = json!({ "ownerId": OWNER, "promotion": { "via": { "argoCD": true } } });
        cluster.install_chart(&chart, &values).await?;
        let workloads = Box::leak(Box::new(cluster.workloads(2).await?));
        let argo = cluster.argo_cd().await?;
        let operator = stage.operator(&format!("{name}-operator"), cluster, OWNER).await?;
        let mut play = Play::open_on(stage, cluster, name).await?;
        play.operator = Box::leak(Box::new(operator));
        play.workloads = Some(workloads);
        Ok(Self { play, argo })
    }

    /// Commits the Deployment `app` as it stands in Git.
    async fn commit(&self, image: &str, note: &str) -> Result<String> {
        let labels = json!({ "app": "app" });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "app", "labels": labels },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels, "annotations": { "note": note } },
                    "spec": { "containers": [
                        { "name": "app", "image": image },
                        { "name": "proxy", "image": "registry.k8s.io/pause:3.9" },
                    ] },
                },
            },
        });
        self.argo
            .repository()
            .write("app/deployment.yaml", &deployment.to_string())?;
        self.argo.repository().commit(note).await
    }

    async fn synced(&self, revision: &str) -> Result<ApplicationStatus> {
        self.argo.refresh("app", LIMIT).await?;
        self.argo.until_healthy("app", revision, LIMIT).await
    }

    /// Waits for a reason of the promotion, and gives the condition's message.
    async fn told(&self, reason: &str) -> Result<String> {
        let what = format!("the promotion to be {reason}");
        let found = eventually(LIMIT, &what, async || {
            let object = self.play.scene.get("imagepromotion", NAME).await?;
            let ready = condition(&object, "Ready").context("no condition yet")?;
            ensure!(ready["reason"] == reason, "{:#}", object["status"]);
            Ok(ready["message"].as_str().unwrap_or_default().to_owned())
        });
        found
            .await
            .with_context(|| crate::support::tail(&self.play.operator.process().log()))
    }

    async fn operators_writes(&self) -> Result<u64> {
        let writes = self.play.scene.cluster.writes(&Cluster::operator_user()).await?;
        Ok(writes.by_resource.get("deployments").copied().unwrap_or(0))
    }

    /// The image stays, and Argo CD has nothing against it.
    async fn peace(&self, digest: &str) -> Result<()> {
        let wanted = self.play.image(digest);
        throughout(QUIET, "the peace", async || {
            let image = self.play.running("app").await?;
            ensure!(image == wanted, "the Deployment runs {image}");
            let status = self.argo.status("app").await?;
            // It may notice only now that pods were replaced, and are ready.
            let is_well = matches!(status.health.as_str(), "Healthy" | "Progressing");
            ensure!(status.sync == "Synced" && is_well, "{status:?}");
            Ok(())
        })
        .await?;
        self.content(digest).await
    }

    /// Waits until the image runs, and Argo CD says that all is well.
    async fn content(&self, digest: &str) -> Result<()> {
        eventually(LIMIT, "the image to run, and Argo CD to be content", async || {
            // The status may be the one from before what was just asked for.
            let image = self.play.running("app").await?;
            ensure!(image == self.play.image(digest), "{image}");
            let status = self.argo.status("app").await?;
            ensure!(status.sync == "Synced" && status.health == "Healthy", "{status:?}");
            Ok(())
        })
        .await
    }

    async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = eventually(LIMIT, what, async || {
            let status = self.play.status().await?;
            ensure!(fits(&status), "{status:#}");
            Ok(status)
        });
        found
            .await
            .with_context(|| crate::support::tail(&self.play.operator.process().log()))
    }

    /// Waits until this image is current and nothing is under way, and looks whether the peace lasts.
    async fn at_rest(&self, digest: &str) -> Result<Value> {
        let status = self
            .until(&format!("{digest} to be current and at rest"), |status| {
                status["current"]["digest"] == digest && status["rollout"].is_null()
            })
            .await?;
        self.content(digest).await?;
        self.peace(digest).await?;
        Ok(status)
    }
}

/// What stands between backticks in a message, as somebody copies it.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

#[test]
#[ignore = "needs Argo CD: cargo xtask test --all"]
fn argo_cd_is_told_apart_fought_for_a_moment_and_then_at_peace() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "argo").await?;
        let play = &theatre.play;
        let first = play.push("1.0.0").await?;
        let in_git = format!("{}:1.0.0", play.uri);
        let revision = theatre.commit(&in_git, "first").await?;
        theatre.argo.apply(&Application::new("app", "argo", "app")).await?;
        theatre.argo.until_healthy("app", &revision, LIMIT).await?;

        // Auto writes nothing.
        let second = play.push("1.1.0").await?;
        play.promote(json!({})).await?;
        let message = theatre.told("TargetOwned").await?;
        for words in ["application app", "jqPathExpressions", "RespectIgnoreDifferences"] {
            ensure!(message.contains(words), "{message}");
        }
        ensure!(theatre.operators_writes().await? == 0, "something was written");

        // Direct without a word to Argo CD is a fight, which ends by itself.
        let targets = json!([{ "kind": "Deployment", "name": "app", "containers": ["app"], "via": "Direct" }]);
        let rollout = json!({ "timeout": "5m", "stabilization": "1s" });
        play.promote(json!({ "targets": targets, "rollout": rollout })).await?;
        let message = theatre.told("Contested").await?;
        ensure!(message.contains("argocd"), "{message}");
        let status = play.status().await?;
        ensure!(status["targets"][0]["reverts"] == 3, "{status:#}");
        let before = theatre.operators_writes().await?;
        ensure!(before == 3, "written {before} times");
        throughout(QUIET, "writing nothing", async || {
            let writes = theatre.operators_writes().await?;
            ensure!(writes == before, "{writes} instead of {before}");
            Ok(())
        })
        .await?;
        let running = play.running("app").await?;
        ensure!(running == in_git, "{running}");

        // What the message says is pasted as it is.
        let words = quoted(&message);
        let differences = words.iter().find(|words| words.starts_with("ignoreDifferences:"));
        let option = words.iter().find(|words| words.starts_with("RespectIgnore"));
        let (differences, option) = differences.zip(option).ok_or_else(|| anyhow!("{message}"))?;
        let patch =
            format!("spec:\n  {differences}\n  syncPolicy:\n    syncOptions: [CreateNamespace=true, {option}]\n");
        let cluster = play.scene.cluster;
        let namespace = format!("--namespace={ARGO_CD_NAMESPACE}");
        cluster
            .kubectl(&[
                "patch",
                "application",
                "app",
                &namespace,
                "--type=merge",
                "--patch",
                &patch,
            ])
            .await?
            .checked()?;
        play.request("resume", "now").await?;
        play.reason("Settled").await?;
        theatre.at_rest(&second).await?;

        // A later sync of something else leaves it alone.
        let revision = theatre.commit(&in_git, "another note").await?;
        theatre.synced(&revision).await?;
        let deployment = play.workload("deployment", "app").await?;
        let noted = &deployment["spec"]["template"]["metadata"]["annotations"]["note"];
        ensure!(noted == "another note", "{noted}");
        theatre.at_rest(&second).await?;

        // A rollback stays, whoever begins anew.
        let bad = play.push_bad("1.2.0", Behaviour::Crash).await?;
        play.look().await?;
        theatre
            .until("the bad image to be taken back", |status| {
                status["rejected"][0]["digest"] == bad.as_str() && status["rollout"].is_null()
            })
            .await?;
        theatre.at_rest(&second).await?;
        play.operator.restart().await?;
        play.kubectl(&["delete", "imagepromotion.ecr-operator.dev", NAME])
            .await?;
        play.promote(json!({ "targets": targets, "rollout": rollout })).await?;
        let status = theatre.at_rest(&second).await?;
        ensure!(status["rejected"][0]["digest"] == bad.as_str(), "{status:#}");
        let revision = theatre.commit(&in_git, "a third note").await?;
        theatre.synced(&revision).await?;
        play.look().await?;
        theatre.at_rest(&second).await?;
        ensure!(first != second && bad != second, "images of one content");
        Ok(())
    })
}

#[test]
#[ignore = "needs Argo CD: cargo xtask test --all"]
fn an_application_that_helm_renders_gets_the_digest_as_a_parameter_and_gives_it_back() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "argo-helm").await?;
        let play = &theatre.play;
        let first = play.push("1.0.0").await?;
        let chart = json!({ "apiVersion": "v2", "name": "app", "version": "1.0.0" });
        let git = theatre.argo.repository();
        git.write("chart/Chart.yaml", &chart.to_string())?;
        let values = json!({ "image": { "repository": play.uri, "digest": first } });
        git.write("chart/values.yaml", &values.to_string())?;
        git.write("chart/templates/deployment.yaml", TEMPLATE)?;
        let revision = git.commit("a chart").await?;
        theatre
            .argo
            .apply(&Application::new("app", "argo-helm", "chart"))
            .await?;
        theatre.argo.until_healthy("app", &revision, LIMIT).await?;
        let consent = "ecr-operator.dev/promotable-from=argo-helm";
        let namespace = format!("--namespace={ARGO_CD_NAMESPACE}");
        let annotate = ["annotate", "application", "app", &namespace, consent];
        play.scene.cluster.kubectl(&annotate).await?.checked()?;

        let via_ref = json!({ "name": "app", "namespace": ARGO_CD_NAMESPACE, "key": "helm:image.digest" });
        let target = json!({ "kind": "Deployment", "name": "app", "containers": ["app"],
            "via": "ArgoApplication", "viaRef": via_ref });
        let rollout = json!({ "timeout": "2m", "stabilization": "1s" });
        play.promote(json!({ "targets": [target], "rollout": rollout })).await?;
        theatre.at_rest(&first).await?;

        let second = play.push("1.1.0").await?;
        play.look().await?;
        theatre.at_rest(&second).await?;
        let parameters = async || {
            let application = play
                .scene
                .cluster
                .get("application.argoproj.io", ARGO_CD_NAMESPACE, "app")
                .await?;
            anyhow::Ok(application["spec"]["source"]["helm"]["parameters"].clone())
        };
        let expected = |digest: &str| json!([{ "name": "image.digest", "value": digest }]);
        let found = parameters().await?;
        ensure!(found == expected(&second), "{found}");

        let bad = play.push_bad("1.2.0", Behaviour::Crash).await?;
        play.look().await?;
        theatre
            .until("the bad image to be taken back", |status| {
                status["rejected"][0]["digest"] == bad.as_str() && status["rollout"].is_null()
            })
            .await?;
        let status = theatre.at_rest(&second).await?;
        ensure!(status["targets"][0]["reverts"] == 0, "{status:#}");
        let found = parameters().await?;
        ensure!(found == expected(&second), "{found}");
        // What is noted on the Deployment is no image.
        let deployment = play.workload("deployment", "app").await?;
        let managers = deployment["metadata"]["managedFields"].as_array().cloned();
        let ours = |entry: &&Value| entry["manager"] == "ecr-operator-image-promotion";
        let owned: Vec<Value> = managers.iter().flatten().filter(ours).cloned().collect();
        ensure!(
            owned.iter().all(|entry| entry["fieldsV1"]["f:spec"].is_null()),
            "{owned:#?}"
        );
        Ok(())
    })
}

/// A Deployment whose image is made of values.
const TEMPLATE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
        - name: app
          image: '{{ .Values.image.repository }}@{{ .Values.image.digest }}'
";
