//! What the apiserver refuses of an ImagePromotion's choice of images and of its gates, with a sentence that helps.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::{Scene, merge, object, run};

/// A promotion that nobody can carry out: its Repository does not exist.
fn promotion(scene: &Scene, name: &str, spec: Value) -> Value {
    let mut whole = json!({
        "source": { "repositoryRef": { "name": "nobody" } },
        "targets": [{ "kind": "Deployment", "name": "app", "containers": ["app"] }],
        "suspend": true
    });
    merge(&mut whole, spec);
    object("ImagePromotion", name, Some(&scene.name), whole)
}

async fn accepts(scene: &Scene, spec: Value) -> Result<()> {
    let manifest = promotion(scene, "accepted", spec);
    scene.apply(&manifest).await?;
    let delete = [
        "delete",
        "imagepromotion.ecr-operator.dev",
        "accepted",
        "-n",
        &scene.name,
    ];
    scene.cluster.kubectl(&delete).await?.checked().map(drop)
}

async fn rejects(scene: &Scene, spec: Value, sentence: &str) -> Result<()> {
    let refusal = scene.refusal(&promotion(scene, "refused", spec.clone())).await?;
    ensure!(
        refusal.contains(sentence),
        "{spec} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

fn policy(policy: Value) -> Value {
    json!({ "source": { "policy": policy } })
}

fn range(range: &str) -> Value {
    policy(json!({ "semver": { "range": range } }))
}

#[test]
fn a_policy_is_one_that_can_pick_an_image() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("choice-policy").await?;
        for good in [
            "*",
            "1.x",
            "v1.2.3",
            ">=1.2 <2",
            ">= 1.2, < 2",
            "~1.4 || ^2",
            "^1.3.0-rc.1",
            "1.2.3+b.5",
        ] {
            accepts(&scene, range(good)).await?;
        }
        for bad in [
            "", "latest", ">=", "1.2.3.4", "01.2", "1.x.3", ">=*", "1.2-rc.1", "1.2.3-01", "1 ||", "1 - 2", ">>1",
        ] {
            rejects(&scene, range(bad), "spec.source.policy.semver.range").await?;
        }
        rejects(&scene, policy(json!({})), "takes exactly one of semver, tag, digest").await?;
        let two = policy(json!({ "latestPushed": {}, "numerical": {} }));
        rejects(&scene, two, "takes exactly one of semver, tag, digest").await?;
        Ok(())
    })
}

#[test]
fn a_filter_is_made_of_expressions() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("choice-filter").await?;
        let filter = |filter: Value| json!({ "source": { "policy": { "latestPushed": {} }, "filter": filter } });
        let good = json!({ "include": "^v(?P<version>.*)$", "exclude": ["-rc", "^v0\\."], "extract": "$version" });
        accepts(&scene, filter(good)).await?;
        rejects(&scene, filter(json!({ "include": "(" })), "not a regular expression").await?;
        rejects(
            &scene,
            filter(json!({ "exclude": ["a", "["] })),
            "not a regular expression",
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "extract": "$1" })),
            "filter.include, which is missing",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn a_window_opens_some_time() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("choice-window").await?;
        let window = |window: Value| {
            let mut whole = json!({ "kind": "Allow" });
            merge(&mut whole, window);
            json!({ "source": { "policy": { "latestPushed": {} } }, "gates": { "windows": [whole] } })
        };
        let daily = json!({ "days": ["Mon", "Fri"], "from": "22:00", "to": "06:00", "timeZone": "Europe/Berlin" });
        accepts(&scene, window(daily)).await?;
        accepts(&scene, window(json!({ "from": "00:00", "to": "24:00" }))).await?;
        accepts(
            &scene,
            window(json!({ "start": "2026-12-01T00:00:00Z", "end": "2026-12-01T01:00:00Z" })),
        )
        .await?;
        for (bad, sentence) in [
            (json!({ "from": "08:00", "to": "08:00" }), "never opens"),
            (json!({ "from": "08:00" }), "either from and to"),
            (json!({ "from": "8:00", "to": "09:00" }), "windows[0].from"),
            (json!({ "from": "08:00", "to": "24:30" }), "windows[0].to"),
            (
                json!({ "start": "2026-12-01T01:00:00Z", "end": "2026-12-01T01:00:00Z" }),
                "never opens",
            ),
            (
                json!({ "from": "08:00", "to": "09:00", "timeZone": "Mars/Olympus" }),
                "not a time zone of the IANA database",
            ),
            (
                json!({ "days": ["Funday"], "from": "08:00", "to": "09:00" }),
                "windows[0].days[0]",
            ),
        ] {
            rejects(&scene, window(bad), sentence).await?;
        }
        Ok(())
    })
}
