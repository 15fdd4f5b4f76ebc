//! Wherever it is cut off, a promotion ends in the same place; and what runs is not harmed by what cannot be reached.

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Behaviour, Cluster, Effect, Fault, Gateway, Operator, Workloads, eventually};
use serde_json::{Value, json};

use super::{
    play::{LIMIT, Play, ready},
    verify::{job, jobs, tag},
};
use crate::support::{OWNER, REGION, Stage, condition, run, tail};

/// What happens to a write to the cluster.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The operator is killed before it sees the answer.
    Kill,
    /// The answer is lost.
    Lose,
}

/// No promotion takes as many writes.
const MOST: usize = 60;

/// A cluster with pods, and an operator of which every write to it is counted.
struct Theatre {
    operator: Operator,
    gateway: Gateway,
    pods: &'static Workloads,
    play: Play,
}

impl Theatre {
    async fn open(stage: &'static Stage, name: &str) -> Result<Self> {
        let cluster = stage.whole_cluster().await?;
        let pods = super::play::pods_of(cluster).await?;
        let gateway = cluster.gateway(bed::NAMESPACE, bed::SERVICE_ACCOUNT).await?;
        let operator = stage.quiet_operator(name, cluster, &gateway).await?;
        let mut play = Play::open_on(stage, cluster, name).await?;
        play.workloads = Some(pods);
        Ok(Self {
            operator,
            gateway,
            pods,
            play,
        })
    }

    /// Begins with 1.0.0. It looks only when it is asked to: no write is routine.
    async fn begin(&self) -> Result<String> {
        let rollout = json!({ "timeout": "30s", "stabilization": "1s", "maxRestarts": 0 });
        let begun = json!({
            "interval": "1d", "rollout": rollout, "verification": [job("checks.example/drill")],
            "onVerified": { "tag": "verified" },
        });
        self.play.begin(begun).await
    }

    /// Strikes each write of an act, one in each round, until an act takes no further write. Gives how many it takes.
    async fn at_every_write(&self, blow: Blow, act: &impl Act) -> Result<usize> {
        for nth in 1..=MOST {
            let round = self.round(blow, act, nth).await;
            let struck = round.map_err(|error| {
                let log = tail(&self.operator.process().log());
                anyhow!("{blow:?} at write {nth}: {error:#}\nthe log of the drilled operator ends with:\n{log}")
            })?;
            if !struck {
                return Ok(nth - 1);
            }
        }
        Err(anyhow!("an act takes more than {MOST} writes"))
    }

    async fn round(&self, blow: Blow, act: &impl Act, nth: usize) -> Result<bool> {
        // What the round before had no more writes for strikes nothing in this one.
        self.gateway.reset();
        self.idle().await?;
        let before = self.play.status().await?;
        let image = act.prepare(self, nth).await?;
        match blow {
            Blow::Kill => self.gateway.hold_after(nth),
            Blow::Lose => self.gateway.lose_answers(nth, 1),
        }
        self.play.look().await?;
        let over = async || {
            let object = self.play.scene.get("imagepromotion", "app").await?;
            let settled = condition(&object, "Ready").is_some_and(|ready| ready["reason"] == "Settled");
            ensure!(
                settled && object["status"]["rollout"].is_null() && act.is_over(&object["status"], &image),
                "{:#}",
                object["status"]
            );
            anyhow::Ok(object["status"].clone())
        };
        let struck = eventually(LIMIT, "a write or the end", async || {
            if self.gateway.writes().len() >= nth {
                return Ok(true);
            }
            over().await.map(|_| false)
        })
        .await?;
        if struck && matches!(blow, Blow::Kill) {
            self.operator.kill();
            self.gateway.reset();
            self.operator.restart().await?;
        }
        let status = eventually(LIMIT, "the act to be over", over).await?;
        act.check(self, &before, &status, &image).await?;
        Ok(struck)
    }

    /// Waits until nothing is under way, so that no write of one round counts in the next.
    async fn idle(&self) -> Result<()> {
        eventually(LIMIT, "the operator to be idle", async || {
            let metrics = self.operator.metrics().await?;
            let busy = metrics
                .lines()
                .find(|line| line.starts_with("ecr_operator_reconciles_in_flight{") && !line.ends_with(" 0"));
            ensure!(busy.is_none(), "{busy:?}");
            Ok(())
        })
        .await
    }

    async fn runs(&self, digest: &Value) -> Result<()> {
        let image = self.play.running("app").await?;
        let digest = digest.as_str().context("no digest")?;
        ensure!(image == self.play.image(digest), "the Deployment runs {image}");
        let verified = tag(&self.play, "verified").await?;
        ensure!(verified == digest, "the tag is on {verified}");
        Ok(())
    }
}

/// What is done in each round of a drill.
trait Act {
    /// Pushes what the round is about, and gives its digest.
    async fn prepare(&self, theatre: &Theatre, round: usize) -> Result<String>;

    fn is_over(&self, status: &Value, image: &str) -> bool;

    /// Compares the end with what there was before.
    async fn check(&self, theatre: &Theatre, before: &Value, after: &Value, image: &str) -> Result<()>;
}

/// A good image goes out.
struct Promote;

impl Act for Promote {
    async fn prepare(&self, theatre: &Theatre, round: usize) -> Result<String> {
        theatre.play.push(&format!("1.{round}.0")).await
    }

    fn is_over(&self, status: &Value, image: &str) -> bool {
        status["current"]["digest"] == image
    }

    async fn check(&self, theatre: &Theatre, before: &Value, after: &Value, image: &str) -> Result<()> {
        ensure!(after["lastGood"]["digest"] == image, "{after:#}");
        ensure!(after["previous"]["digest"] == before["current"]["digest"], "{after:#}");
        ensure!(after["rejected"].is_null() && after["hold"].is_null(), "{after:#}");
        let number = |status: &Value| status["lastRollout"].as_u64().unwrap_or_default();
        ensure!(
            number(after) == number(before) + 1,
            "it was rolled out again: {after:#}"
        );
        ensure!(
            after["history"][0]["outcome"] == "Succeeded" && after["history"][0]["image"]["digest"] == image,
            "{after:#}"
        );
        let jobs = jobs(&theatre.play).await?.len();
        ensure!(
            u64::try_from(jobs)? == number(after),
            "it was verified {jobs} times: {after:#}"
        );
        theatre.runs(&after["current"]["digest"]).await
    }
}

/// A bad image goes out and is taken back.
struct GoBack;

impl Act for GoBack {
    async fn prepare(&self, theatre: &Theatre, round: usize) -> Result<String> {
        let tag = format!("2.{round}.0");
        theatre.play.push_bad_to(theatre.pods, &tag, Behaviour::Crash).await
    }

    fn is_over(&self, status: &Value, image: &str) -> bool {
        status["rejected"][0]["digest"] == image
    }

    async fn check(&self, theatre: &Theatre, before: &Value, after: &Value, image: &str) -> Result<()> {
        for member in ["current", "lastGood"] {
            ensure!(after[member]["digest"] == before[member]["digest"], "{after:#}");
        }
        ensure!(
            after["hold"]["kind"] == "RolledBack" && after["hold"]["awayFrom"] == image,
            "{after:#}"
        );
        let number = |status: &Value| status["lastRollout"].as_u64().unwrap_or_default();
        ensure!(
            number(after) == number(before) + 2,
            "it was rolled out again: {after:#}"
        );
        let outcomes = (&after["history"][0], &after["history"][1]);
        ensure!(
            outcomes.0["kind"] == "Rollback" && outcomes.0["outcome"] == "Succeeded",
            "{after:#}"
        );
        ensure!(
            outcomes.1["image"]["digest"] == image && outcomes.1["outcome"] == "Failed",
            "{after:#}"
        );
        let noted = async || {
            let deployment = theatre.play.workload("deployment", "app").await?;
            let noted = &deployment["metadata"]["annotations"]["ecr-operator.dev/rejected-digests"];
            ensure!(noted.as_str().is_some_and(|noted| noted.contains(image)), "{noted}");
            Ok(())
        };
        if noted().await.is_err() {
            // A note that fails must not keep the rollback from its end: it comes with the next look.
            theatre.play.look().await?;
            eventually(LIMIT, "the note on the Deployment", noted).await?;
        }
        theatre.runs(&after["current"]["digest"]).await
    }
}

async fn drill(stage: &'static Stage, name: &str, blow: Blow) -> Result<()> {
    let theatre = Theatre::open(stage, name).await?;
    theatre.begin().await?;
    let writes = theatre.at_every_write(blow, &Promote).await?;
    // The decision, the workload, the pause, the end.
    ensure!(writes >= 4, "{writes}");
    let writes = theatre.at_every_write(blow, &GoBack).await?;
    // And the decision to go back, the note on the workload, the workload, the end.
    ensure!(writes >= 6, "{writes}");
    Ok(())
}

#[test]
fn killed_after_any_write_a_promotion_and_a_rollback_end_in_the_same_place() -> Result<()> {
    run(async |stage| drill(stage, "promotion-kills", Blow::Kill).await)
}

#[test]
fn with_any_answer_lost_a_promotion_and_a_rollback_end_in_the_same_place() -> Result<()> {
    run(async |stage| drill(stage, "promotion-losses", Blow::Lose).await)
}

#[test]
fn what_runs_is_untouched_while_ecr_does_not_answer() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "faults-ecr").await?;
        let first = play.begin(json!({})).await?;
        let second = play.push("1.1.0").await?;
        let denied = Fault::error("ecr:*", 400, "AccessDeniedException", "not authorized");
        let down = Fault::new("ecr:*", Effect::Disconnect);
        for fault in [denied, Fault::throttling("ecr:*"), down] {
            let shown = format!("{fault:?}");
            let fault = stage.aws.inject(&fault.registry(&play.scene.account, REGION)).await?;
            let status = play.looked().await.with_context(|| shown.clone())?;
            let message = ready(&status);
            ensure!(
                message.contains("could not be read") || message.contains("is not ready"),
                "{shown}: {message}"
            );
            ensure!(status["current"]["digest"] == first.as_str(), "{status:#}");
            ensure!(status["rollout"].is_null() && status["hold"].is_null(), "{status:#}");
            ensure!(play.running("app").await? == play.image(&first), "{shown}");
            stage.aws.remove_fault(&fault).await?;
            // What was denied is tried again within minutes by itself, and at once where somebody asks.
            let asked = format!("ecr-operator.dev/reconcile={}", fault.replace(':', "-"));
            let annotate = ["annotate", "registry.ecr-operator.dev", &play.scene.name, "--overwrite"];
            let annotate = [&annotate[..], &[&asked]].concat();
            play.scene.cluster.kubectl(&annotate).await?.checked()?;
            play.scene
                .reason("registry", &play.scene.name, "Settled")
                .await
                .with_context(|| shown.clone())?;
            if !shown.contains("Disconnect") {
                continue;
            }
            play.look().await?;
            play.runs(&second).await?;
        }
        Ok(())
    })
}

#[test]
fn a_rollback_needs_no_registry() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "faults-back").await?;
        let first = play.begin(json!({})).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;
        let down = Fault::server_error("ecr:*").registry(&play.scene.account, REGION);
        let down = stage.aws.inject(&down).await?;
        play.request("rollback", "one").await?;
        play.runs(&first).await?;
        stage.aws.remove_fault(&down).await?;
        play.looked().await?;
        play.runs(&first).await.map(drop)
    })
}

/// Keeps the operator from changing Deployments of a namespace.
async fn forbid(play: &Play) -> Result<()> {
    let name = format!("no-rollouts-{}", play.scene.name);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["deployments"] }] },
            "matchConditions": [{ "name": "operator",
                "expression": format!("request.userInfo.username == '{}'", Cluster::operator_user()) }],
            "validations": [{ "expression": "false", "message": "nobody rolls out on a Friday" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"], "matchResources": { "namespaceSelector": {
            "matchLabels": { "kubernetes.io/metadata.name": play.scene.name } } } },
    });
    play.scene.apply(&policy).await?;
    play.scene.apply(&binding).await?;
    eventually(LIMIT, "the policy to hold", async || {
        ensure!(!may_roll_out(play).await?, "it is let through");
        Ok(())
    })
    .await
}

/// Whether the apiserver would let the operator change the Deployment.
async fn may_roll_out(play: &Play) -> Result<bool> {
    let user = Cluster::operator_user();
    let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"probe":"1"}}}}}"#;
    let probe = [
        "patch",
        "deployment",
        "app",
        "--dry-run=server",
        "--as",
        &user,
        "-p",
        patch,
    ];
    match play.kubectl(&probe).await {
        Ok(_) => Ok(true),
        Err(error) if format!("{error:#}").contains("on a Friday") => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn a_patch_that_the_apiserver_refuses_is_told_of_and_given_up_in_time() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "faults-refused").await?;
        let rollout = json!({ "rollout": { "timeout": "8s", "stabilization": "1s" } });
        let first = play.begin(rollout).await?;
        forbid(&play).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.says("nobody rolls out on a Friday").await?;
        let status = play.taken_back(&second).await?;
        let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.contains("could not be written") && reason.contains("on a Friday"),
            "{reason}"
        );
        // What is not noted on the Deployment, because that is refused too, is told of.
        let note = play.scene.event("app", "NoteRefused").await?;
        ensure!(note.contains("on a Friday"), "{note}");
        ensure!(status["current"]["digest"] == first.as_str(), "{status:#}");
        ensure!(play.running("app").await? == play.image(&first), "{status:#}");
        let name = format!("no-rollouts-{}", play.scene.name);
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            play.scene.cluster.kubectl(&["delete", kind, &name]).await?.checked()?;
        }
        eventually(LIMIT, "the policy to be gone", async || {
            ensure!(may_roll_out(&play).await?, "it still holds");
            Ok(())
        })
        .await?;
        let third = play.push("1.2.0").await?;
        play.look().await?;
        play.runs(&third).await?;
        let deployment = play.workload("deployment", "app").await?;
        let noted = &deployment["metadata"]["annotations"]["ecr-operator.dev/rejected-digests"];
        ensure!(*noted == second.as_str(), "{noted}");
        Ok(())
    })
}

/// Who holds the Lease.
async fn holder(cluster: &Cluster) -> Result<String> {
    let lease = cluster
        .get("lease.coordination.k8s.io", bed::NAMESPACE, "ecr-operator")
        .await?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

async fn held_by(cluster: &Cluster, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("{name} to hold the Lease"), async || {
        let holder = holder(cluster).await?;
        ensure!(holder == name, "{holder} holds it");
        Ok(())
    })
    .await
}

#[test]
fn another_replica_goes_on_where_the_leader_died_or_was_asked_to_end() -> Result<()> {
    run(async |stage| {
        let cluster = stage.whole_cluster().await?;
        let pods = super::play::pods_of(cluster).await?;
        let start = async |name: &'static str| {
            let args = ["--lease-duration", "3s"];
            stage.operator_with(name, cluster, OWNER, &args).await
        };
        let first = start("promotion-lead-1").await?;
        held_by(cluster, "promotion-lead-1").await?;
        let second = start("promotion-lead-2").await?;
        let mut play = Play::open_on(stage, cluster, "promotion-lead").await?;
        play.workloads = Some(pods);
        let rollout = json!({ "timeout": "2m", "stabilization": "1s" });
        play.begin(json!({ "rollout": rollout })).await?;
        let rolling = async |tag: &str| {
            let digest = play.push_bad_to(pods, tag, Behaviour::NeverReady).await?;
            play.look().await?;
            play.until("the rollout to be under way", |status| {
                status["rollout"]["image"]["digest"] == digest.as_str() && status["rollout"]["phase"] == "RollingOut"
            })
            .await?;
            anyhow::Ok(digest)
        };

        let digest = rolling("1.1.0").await?;
        first.kill();
        held_by(cluster, "promotion-lead-2").await?;
        pods.behave(&digest, Behaviour::Healthy);
        let status = play.runs(&digest).await?;
        ensure!(status["lastRollout"] == 1, "{status:#}");

        first.restart().await?;
        let digest = rolling("1.2.0").await?;
        let status = second.stop().await?;
        ensure!(status.success(), "{status}");
        held_by(cluster, "promotion-lead-1").await?;
        pods.behave(&digest, Behaviour::Healthy);
        let status = play.runs(&digest).await?;
        ensure!(status["lastRollout"] == 2, "{status:#}");
        ensure!(
            status["history"].as_array().is_some_and(|all| all.len() == 3),
            "{status:#}"
        );
        Ok(())
    })
}
