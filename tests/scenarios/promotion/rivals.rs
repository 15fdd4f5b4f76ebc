//! Two promotions on one container.

use anyhow::{Result, anyhow, ensure};
use bed::{Behaviour, eventually, throughout};
use serde_json::{Value, json};

use super::play::{LIMIT, Play};
use crate::support::{condition, object, run};

const QUIET: std::time::Duration = std::time::Duration::from_secs(3);

#[test]
fn of_two_promotions_on_one_container_the_younger_is_told_and_takes_over_later() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "rivals").await?;
        let older = play.push("1.0.0").await?;
        let newer = play.push("2.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        let of_one = json!({ "repositoryRef": { "name": "app" }, "policy": { "semver": { "range": "^1" } } });
        // No interval that passes in this scenario makes anybody look.
        play.promote(json!({ "source": of_one, "interval": "1h" })).await?;
        play.runs(&older).await?;

        // What `*` stands for is the same container. The elder by name of two of one second is the first by name too.
        let mut second = play.promotion(json!({ "interval": "1h",
            "targets": [{ "kind": "Deployment", "selector": { "matchLabels": { "app": "app" } }, "containers": ["*"] }] }));
        second["metadata"]["name"] = "second".into();
        play.scene.apply(&second).await?;
        let told = async |reason: &str| {
            eventually(LIMIT, &format!("the second to be {reason}"), async || {
                let found = play.scene.get("imagepromotion", "second").await?;
                let ready = condition(&found, "Ready")
                    .cloned()
                    .ok_or_else(|| anyhow!("no condition"))?;
                ensure!(ready["reason"] == reason, "{:#}", found["status"]);
                Ok((ready, found["status"].clone()))
            })
            .await
        };
        let (ready, status) = told("TargetTaken").await?;
        let message = ready["message"].as_str().unwrap_or_default();
        for words in ["ImagePromotion app is older", "container app of Deployment app"] {
            ensure!(message.contains(words), "{message}");
        }
        ensure!(status["rollout"].is_null() && status["current"].is_null(), "{status:#}");

        // Nobody's write and no request moves it.
        play.kubectl(&[
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "second",
            "ecr-operator.dev/promote=2.0.0",
        ])
        .await?;
        play.kubectl(&["annotate", "deployment", "app", "touched=yes"]).await?;
        let image = play.image(&older);
        throughout(QUIET, "the image of the older promotion", async || {
            let running = play.running("app").await?;
            ensure!(running == image, "{running}");
            Ok(())
        })
        .await?;
        play.runs(&older).await?;

        // Of another container it may be.
        let other = play.promotion(
            json!({ "interval": "1h", "source": of_one, "targets": [{ "kind": "Deployment",
            "name": "app", "containers": ["sidecar"] }] }),
        );
        let mut other = object("ImagePromotion", "other", Some(&play.scene.name), other["spec"].clone());
        other["spec"]["suspend"] = true.into();
        play.scene.apply(&other).await?;

        // The elder goes, and at once the younger one has it.
        play.kubectl(&["delete", "imagepromotion.ecr-operator.dev", "app"])
            .await?;
        told("Settled").await?;
        let running = play.running("app").await?;
        ensure!(running == play.image(&newer), "{running}");

        // The other way of giving way: the older one leaves the container.
        let mut third = play.promotion(json!({ "source": of_one, "interval": "1h" }));
        third["metadata"]["name"] = "third".into();
        play.scene.apply(&third).await?;
        let reason = async |reason: &str| {
            eventually(LIMIT, &format!("the third to be {reason}"), async || {
                let found = play.scene.get("imagepromotion", "third").await?;
                let ready = condition(&found, "Ready").ok_or_else(|| anyhow!("no condition"))?;
                ensure!(ready["reason"] == reason, "{:#}", found["status"]);
                Ok(())
            })
            .await
        };
        reason("TargetTaken").await?;
        second["spec"]["targets"] = json!([{ "kind": "Deployment", "name": "elsewhere" }]);
        play.scene.apply(&second).await?;
        reason("Settled").await?;
        let running = play.running("app").await?;
        ensure!(running == play.image(&older), "{running}");
        Ok(())
    })
}

#[test]
fn a_rollout_that_has_to_give_way_says_nothing_against_its_image() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "rivals-rollout").await?;
        let older = play.push("1.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        play.deployment("elsewhere", &format!("{}:1.0.0", play.uri)).await?;
        let source =
            |range: &str| json!({ "repositoryRef": { "name": "app" }, "policy": { "semver": { "range": range } } });
        let elsewhere = json!([{ "kind": "Deployment", "name": "elsewhere", "containers": ["app"] }]);
        play.promote(json!({ "source": source("^1"), "targets": elsewhere, "interval": "1h" }))
            .await?;
        play.until("the first to be at rest", |status| {
            status["current"]["digest"] == older.as_str() && status["rollout"].is_null()
        })
        .await?;
        let mut second = play.promotion(json!({ "source": source("^2"), "interval": "1h",
            "rollout": { "timeout": "5m", "stabilization": "0s" } }));
        second["metadata"]["name"] = "second".into();
        play.scene.apply(&second).await?;
        let slow = play.push_bad("2.0.0", Behaviour::NeverReady).await?;
        play.kubectl(&[
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "second",
            "ecr-operator.dev/reconcile=now",
        ])
        .await?;
        let status_of_second = async |what: &str, fits: &dyn Fn(&Value) -> bool| {
            eventually(LIMIT, what, async || {
                let status = play.scene.get("imagepromotion", "second").await?["status"].clone();
                ensure!(fits(&status), "{status:#}");
                Ok(status)
            })
            .await
        };
        status_of_second("the rollout to begin", &|status| {
            status["rollout"]["image"]["digest"] == slow.as_str()
        })
        .await?;

        // The older one reaches for the same container.
        play.promote(json!({ "source": source("^1"), "interval": "1h" }))
            .await?;
        let status = status_of_second("the rollout to be given up", &|status| {
            status["rollout"].is_null() && status["history"][0]["image"]["digest"] == slow.as_str()
        })
        .await?;
        ensure!(status["history"][0]["outcome"] == "Superseded", "{status:#}");
        ensure!(status["rejected"].is_null() && status["hold"].is_null(), "{status:#}");
        play.runs(&older).await?;
        Ok(())
    })
}
