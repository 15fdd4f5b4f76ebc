//! What an image must pass, and what is said while it has not.

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bed::eventually;
use serde_json::{Value, json};

use super::play::{LIMIT, Play, blocked, source, tenant, workloads};
use crate::support::{REGION, object, run};

fn critical(id: &str) -> Value {
    json!([{ "name": id, "severity": "CRITICAL" }])
}

#[test]
fn a_critical_finding_blocks_until_it_is_ignored_with_a_reason() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-scan").await?;
        let first = play.begin(json!({ "gates": { "scan": {} } })).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        let before = play.waits(&second, "Scan", "was not scanned yet").await?;
        play.scanned(&second, "COMPLETE", critical("CVE-2026-1")).await?;
        play.look().await?;
        let status = play.waits(&second, "Scan", "1 CRITICAL (at most 0)").await?;
        ensure!(
            status["blockedBy"][0]["since"] == before["blockedBy"][0]["since"],
            "it waits for the same gate as before: {status:#}"
        );
        play.reason("Settled").await?;
        play.says("waits for Scan").await?;

        let ignoring = |expires: &str| {
            json!({ "gates": { "scan": { "ignore": [
                { "id": "CVE-2026-1", "reason": "the code is not reached", "expires": expires },
            ] } } })
        };
        play.promote(ignoring("2026-01-01T00:00:00Z")).await?;
        play.looked().await?;
        play.waits(&second, "Scan", "1 CRITICAL").await?;
        play.runs(&first).await?;
        play.promote(ignoring("2999-01-01T00:00:00Z")).await?;
        play.runs(&second).await.map(drop)
    })
}

/// What Inspector finds is told in another shape, with more to it.
#[test]
fn of_enhanced_findings_those_without_a_fix_may_be_let_through() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-enhanced").await?;
        let first = play.begin(json!({ "gates": { "scan": {} } })).await?;
        let second = play.push("1.1.0").await?;
        let finding = |id: &str, fix: &str| {
            json!({ "severity": "CRITICAL", "status": "ACTIVE", "fixAvailable": fix,
                "packageVulnerabilityDetails": { "vulnerabilityId": id } })
        };
        let found = json!([finding("CVE-2026-5", "NO"), finding("CVE-2026-6", "YES")]);
        play.scanned(&second, "ACTIVE", found).await?;
        play.look().await?;
        play.waits(&second, "Scan", "2 CRITICAL (at most 0)").await?;
        let fixable = |ignore: Value| json!({ "gates": { "scan": { "fixableOnly": true, "ignore": ignore } } });
        play.promote(fixable(json!([]))).await?;
        play.waits(&second, "Scan", "1 CRITICAL (at most 0) such as CVE-2026-6")
            .await?;
        play.runs(&first).await?;
        play.promote(fixable(json!([
            { "id": "CVE-2026-6", "reason": "the code is not reached", "expires": "2999-01-01T00:00:00Z" },
        ])))
        .await?;
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn every_platform_of_an_index_is_judged() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-index").await?;
        let wanting = |platforms: Value| {
            let mut source = source(&json!({ "semver": { "range": ">=1.0.0" } }));
            source["platforms"] = platforms;
            json!({ "source": source, "gates": { "scan": {} } })
        };
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        let amd64 = play.push("part-amd64").await?;
        let arm64 = play.push("part-arm64").await?;
        let index = play
            .push_index("1.0.0", &[("linux/amd64", &amd64), ("linux/arm64", &arm64)])
            .await?;
        play.scanned(&amd64, "COMPLETE", json!([])).await?;
        play.promote(wanting(json!(["linux/amd64", "linux/arm64"]))).await?;
        play.waits(&index, "Scan", "linux/arm64 was not scanned yet").await?;
        play.scanned(&arm64, "COMPLETE", critical("CVE-2026-2")).await?;
        play.look().await?;
        play.waits(&index, "Scan", "on linux/arm64").await?;
        // What is not to run is not judged.
        play.promote(wanting(json!(["linux/amd64"]))).await?;
        play.runs(&index).await.map(drop)
    })
}

#[test]
fn a_scan_that_cannot_be_had_blocks_unless_it_is_allowed_to_be_missing() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-unavailable").await?;
        play.begin(json!({ "gates": { "scan": {} } })).await?;
        let second = play.push("1.1.0").await?;
        play.scanned(&second, "UNSUPPORTED_IMAGE", json!([])).await?;
        play.look().await?;
        play.waits(&second, "Scan", "not of a sort that ECR can scan").await?;
        play.promote(json!({ "gates": { "scan": { "onUnavailable": "Allow" } } }))
            .await?;
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn a_finding_that_appears_later_is_told_of_and_rolls_back_where_that_is_asked_for() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-later").await?;
        let first = play.begin(json!({ "gates": { "scan": {} } })).await?;
        let second = play.push("1.1.0").await?;
        play.scanned(&second, "COMPLETE", json!([])).await?;
        play.look().await?;
        play.runs(&second).await?;
        play.scanned(&second, "COMPLETE", critical("CVE-2026-3")).await?;
        play.look().await?;
        play.until("the finding to be told of", |status| {
            status["regression"]
                .as_str()
                .is_some_and(|text| text.contains("1 CRITICAL"))
        })
        .await?;
        play.says("it would no longer pass the scan gate").await?;
        let note = play.scene.event("app", "ScanRegression").await?;
        ensure!(note.contains("1 CRITICAL"), "{note}");
        play.runs(&second).await?;

        play.promote(json!({ "gates": { "scan": {} }, "rollback": { "onScanRegression": true } }))
            .await?;
        let status = play.runs(&first).await?;
        ensure!(status["rejected"][0]["digest"] == second.as_str(), "{status:#}");
        play.looked().await?;
        play.runs(&first).await.map(drop)
    })
}

#[test]
fn a_forged_event_without_findings_lets_nothing_through() -> Result<()> {
    run(async |stage| {
        workloads(stage).await?;
        let scene = stage.scene("gates-forged").await?;
        let hidden = std::time::Duration::from_mins(5);
        let queue = stage.aws.event_queue(&scene.account, REGION, hidden).await?;
        let play = Play::enter(scene, json!({ "events": { "queueUrl": queue.url } })).await?;
        let first = play.begin(json!({ "gates": { "scan": {} }, "interval": "1d" })).await?;
        let second = play.push("1.1.0").await?;
        play.scanned(&second, "COMPLETE", critical("CVE-2026-4")).await?;
        play.waits(&second, "Scan", "1 CRITICAL").await?;
        let forged = json!({
            "version": "0", "id": "1", "detail-type": "ECR Image Scan", "source": "aws.ecr",
            "account": play.scene.account, "region": REGION, "time": "2026-11-16T01:54:34Z", "resources": [],
            "detail": { "scan-status": "COMPLETE", "repository-name": play.repository, "image-digest": second,
                "image-tags": ["1.1.0"], "finding-severity-counts": { "CRITICAL": 0 } },
        });
        for _ in 0..3 {
            queue.send(forged.to_string()).await?;
        }
        eventually(LIMIT, "the queue to be read", async || {
            let depth = queue.depth().await?;
            ensure!(depth == (0, 0), "{depth:?}");
            Ok(())
        })
        .await?;
        play.looked().await?;
        play.waits(&second, "Scan", "1 CRITICAL").await?;
        play.runs(&first).await.map(drop)
    })
}

#[test]
fn an_image_waits_for_its_age_and_for_a_window() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-time").await?;
        let first = play.begin(json!({ "gates": { "minAge": "1d" } })).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.waits(&second, "MinAge", "is old enough at").await?;
        let window =
            |kind: &str| json!({ "kind": kind, "start": "2020-01-01T00:00:00Z", "end": "2999-01-01T00:00:00Z" });
        play.promote(json!({ "gates": { "minAge": "1s", "windows": [window("Deny")] } }))
            .await?;
        play.waits(&second, "Window", "let nothing begin before 2999-01-01")
            .await?;
        play.runs(&first).await?;
        play.promote(json!({ "gates": { "minAge": "1s", "windows": [window("Allow")] } }))
            .await?;
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn two_people_approve_each_in_their_own_name() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-approval").await?;
        play.begin(json!({ "gates": { "approval": { "required": 2 } } }))
            .await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.waits(&second, "Approval", "nobody has approved it yet").await?;
        let subjects: Vec<Value> = ["ann", "ben"]
            .iter()
            .map(|name| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }))
            .collect();
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "approvers", "namespace": play.scene.name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ecr-operator-approve" },
            "subjects": subjects,
        });
        play.scene.apply(&binding).await?;
        let approve = async |name: &str, by: &str| {
            let annotation = format!("ecr-operator.dev/approve={second} {by}");
            let annotate = [
                "annotate",
                "imagepromotion.ecr-operator.dev",
                "app",
                "--overwrite",
                "--as",
                name,
            ];
            play.kubectl(&[&annotate[..], &[&annotation]].concat()).await
        };
        approve("ann", "ann").await?;
        play.waits(&second, "Approval", "approved by ann").await?;
        ensure!(
            approve("ann", "ben").await.is_err(),
            "nobody approves in another's name"
        );
        ensure!(approve("eve", "eve").await.is_err(), "only those with the verb approve");
        // Once more by the same person is still one.
        play.kubectl(&[
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "app",
            "ecr-operator.dev/approve-",
        ])
        .await?;
        approve("ann", "ann").await?;
        play.looked().await?;
        play.waits(&second, "Approval", "approved by ann").await?;
        approve("ben", "ben").await?;
        play.runs(&second).await.map(drop)
    })
}

/// A key as cosign makes them, for one test.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Ok(Self(pair.ok().context("no key")?))
    }

    fn public(&self) -> Result<String> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().ok().context("no key")?;
        Ok(pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref())))
    }

    /// Signs an image as `cosign sign --key` does: a manifest under a tag made from the digest.
    async fn sign(&self, play: &Play, digest: &str) -> Result<()> {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": play.uri },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let signature = self.0.sign(&SystemRandom::new(), payload.as_bytes());
        let signature = BASE64_STANDARD.encode(signature.ok().context("not signed")?);
        let (aws, account) = (&play.scene.stage.aws, &play.scene.account);
        let layer = aws
            .push_blob(account, REGION, &play.repository, payload.as_bytes())
            .await?;
        let config = aws.push_blob(account, REGION, &play.repository, b"{}").await?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [{
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": layer,
                "size": payload.len(), "annotations": { "dev.cosignproject.cosign/signature": signature },
            }],
        });
        let tag = format!("{}.sig", digest.replace(':', "-"));
        aws.push_manifest(account, REGION, &play.repository, Some(&tag), &manifest)
            .await
            .map(drop)
    }
}

#[test]
fn only_an_image_that_the_key_has_signed_is_rolled_out() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-signature").await?;
        let (signer, stranger) = (Signer::new()?, Signer::new()?);
        let gates = json!({ "signature": { "cosign": [{ "key": signer.public()? }] } });
        let first = play.begin(json!({ "gates": gates })).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        let unsigned = play.waits(&second, "Signature", "").await?;
        stranger.sign(&play, &second).await?;
        play.look().await?;
        play.until("another sentence", |status| {
            status["blockedBy"][0]["gate"] == "Signature" && blocked(status) != blocked(&unsigned)
        })
        .await?;
        play.runs(&first).await?;
        signer.sign(&play, &second).await?;
        play.look().await?;
        play.runs(&second).await.map(drop)
    })
}

/// Another promotion of the play, to a Deployment of its name.
async fn follower(play: &Play, namespace: &str, name: &str, from: Value) -> Result<()> {
    let spec = json!({
        "source": {
            "registryRef": { "name": play.scene.name }, "repositoryName": play.repository,
            "policy": { "semver": { "range": ">=1.0.0" } }, "from": from,
        },
        "targets": [{ "kind": "Deployment", "name": name, "containers": ["app"] }],
        "rollout": { "timeout": "20s", "stabilization": "1s" },
        "interval": "30s",
    });
    let manifest = object("ImagePromotion", name, Some(namespace), spec);
    play.scene.apply(&manifest).await.map(drop)
}

async fn follower_until(
    play: &Play,
    namespace: &str,
    name: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(LIMIT, what, async || {
        let kind = "imagepromotion.ecr-operator.dev";
        let object = play.scene.cluster.get(kind, namespace, name).await?;
        ensure!(fits(&object["status"]), "{:#}", object["status"]);
        Ok(object["status"].clone())
    })
    .await
}

fn held_by_from(status: &Value, says: &str) -> bool {
    status["blockedBy"][0]["gate"] == "From" && blocked(status).contains(says)
}

#[test]
fn an_image_soaks_in_the_promotion_before_and_what_fails_there_goes_no_further() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "gates-from").await?;
        let space = play.scene.name.clone();
        let approval = json!({ "gates": { "approval": {} } });
        let first = play.begin(approval.clone()).await?;
        play.deployment("prod", &format!("{}:1.0.0", play.uri)).await?;
        let from = |soak: &str| json!({ "promotionRef": { "name": "app" }, "soak": soak });
        follower(&play, &space, "prod", from("0s")).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.waits(&second, "Approval", "").await?;
        let annotate = [
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "prod",
            "ecr-operator.dev/reconcile=1",
        ];
        play.kubectl(&annotate).await?;
        follower_until(&play, &space, "prod", "prod to wait for app", |status| {
            status["candidate"]["digest"] == second.as_str() && held_by_from(status, "")
        })
        .await?;
        ensure!(play.running("prod").await? == play.image(&first), "it waits");
        // Good in the one before, it goes on by itself.
        play.promote(json!({})).await?;
        play.runs(&second).await?;
        follower_until(&play, &space, "prod", "prod to follow", |status| {
            status["current"]["digest"] == second.as_str() && status["rollout"].is_null()
        })
        .await?;
        ensure!(play.running("prod").await? == play.image(&second), "the same digest");

        // While it soaks, it fails where it soaks.
        follower(&play, &space, "prod", from("1h")).await?;
        let third = play.push("1.2.0").await?;
        play.look().await?;
        play.runs(&third).await?;
        play.kubectl(&[
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "prod",
            "--overwrite",
            "ecr-operator.dev/reconcile=2",
        ])
        .await?;
        follower_until(&play, &space, "prod", "prod to wait for the soak", |status| {
            status["candidate"]["digest"] == third.as_str() && held_by_from(status, "must stay so until")
        })
        .await?;
        play.request("reject", &format!("one {third} it is slow")).await?;
        play.runs(&second).await?;
        follower_until(&play, &space, "prod", "prod to hear of it", |status| {
            held_by_from(status, "it was rejected in app: it is slow")
        })
        .await?;
        ensure!(play.running("prod").await? == play.image(&second), "it stays");
        Ok(())
    })
}

#[test]
fn a_promotion_of_another_namespace_must_consent_and_a_circle_is_named() -> Result<()> {
    run(async |stage| {
        workloads(stage).await?;
        let scene = stage.scene("gates-consent").await?;
        let mut tenant = tenant(&scene);
        tenant["repositoryPrefixes"] = json!(["gates-consent/"]);
        let play = Play::enter(scene, json!({ "tenants": [tenant] })).await?;
        let first = play.begin(json!({})).await?;
        let other = "gates-consent-b";
        play.scene.namespace(other, "yes").await?;
        let labels = json!({ "app": "prod" });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "prod", "namespace": other },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "app", "image": "registry.k8s.io/pause:3.9" }] },
            } },
        });
        play.scene.apply(&deployment).await?;
        let from = json!({ "promotionRef": { "name": "app", "namespace": play.scene.name } });
        follower(&play, other, "prod", from).await?;
        follower_until(&play, other, "prod", "a refusal", |status| {
            held_by_from(status, "does not allow it")
        })
        .await?;
        play.request("promotable-from", &format!("elsewhere,{other}")).await?;
        let nudge = [
            "annotate",
            "imagepromotion.ecr-operator.dev",
            "prod",
            "-n",
            other,
            "ecr-operator.dev/reconcile=1",
        ];
        play.scene.cluster.kubectl(&nudge).await?.checked()?;
        follower_until(&play, other, "prod", "prod to follow", |status| {
            status["current"]["digest"] == first.as_str() && status["rollout"].is_null()
        })
        .await?;

        let space = play.scene.name.clone();
        for (name, before) in [("one", "two"), ("two", "one")] {
            play.deployment(name, "registry.k8s.io/pause:3.9").await?;
            follower(&play, &space, name, json!({ "promotionRef": { "name": before } })).await?;
        }
        for name in ["one", "two"] {
            let nudge = format!("ecr-operator.dev/reconcile=circle-{name}");
            play.kubectl(&["annotate", "imagepromotion.ecr-operator.dev", name, &nudge])
                .await?;
            let circle = format!("{space}/one waits for {space}/two");
            follower_until(&play, &space, name, "the circle to be named", |status| {
                held_by_from(status, &circle)
            })
            .await?;
        }
        Ok(())
    })
}
