//! The digest gets to the workload by way of what its owner reads, and the owner, which is this test, takes it up from there.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::hmac;
use axum::{Router, body::Bytes, extract::State, http::HeaderMap};
use bed::{Cluster, Operator, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::OnceCell};

use super::{
    kinds::workload,
    play::{LIMIT, Play},
};
use crate::support::{OWNER, Stage, run};

const KEY: &[u8] = b"a key of more than sixteen bytes";

/// A cluster whose chart is installed with the rights for every way, and what publishes is sent to.
struct Theatre {
    cluster: &'static Cluster,
    operator: Operator,
    receiver: Receiver,
}

/// What a hook was told: signature and body.
#[derive(Clone, Default)]
struct Receiver {
    told: Arc<Mutex<Vec<(String, String)>>>,
    address: String,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self {
            address: format!("http://{}", listener.local_addr()?),
            ..Self::default()
        };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(receiver)
    }

    /// What it was told of a namespace, in order.
    fn of(&self, namespace: &str) -> Result<Vec<Value>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (signature, body) in told.iter() {
            let parsed: Value = serde_json::from_str(body)?;
            if parsed["namespace"] == namespace {
                verify(signature, body)?;
                found.push(parsed);
            }
        }
        Ok(found)
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) {
    let signature = headers
        .get("ecr-operator-signature")
        .and_then(|value| value.to_str().ok());
    let told = (
        signature.unwrap_or_default().to_owned(),
        String::from_utf8_lossy(&body).into_owned(),
    );
    receiver.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
}

/// As a receiver does it that has the key.
fn verify(signature: &str, body: &str) -> Result<()> {
    let parts = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="));
    let (time, hex) = parts.with_context(|| format!("the signature is {signature:?}"))?;
    ensure!(hex.len() == 64, "{signature}");
    let tag: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
        .collect::<Result<_, _>>()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).map_err(|_| anyhow!("not signed: {signature}"))
}

impl Theatre {
    async fn get(stage: &'static Stage) -> Result<&'static Self> {
        static THEATRE: OnceCell<Theatre> = OnceCell::const_new();
        THEATRE.get_or_try_init(|| Self::start(stage)).await
    }

    async fn start(stage: &'static Stage) -> Result<Self> {
        let cluster = stage.bare_cluster().await?;
        crate::support::lasts(cluster);
        let values =
            json!({ "ownerId": OWNER, "promotion": { "via": { "flux": true, "argoCD": true, "configMap": true } } });
        cluster
            .install_chart(&bed::root().join("charts/ecr-operator"), &values)
            .await?;
        for (group, version, kind, plural) in [
            ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
            ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
            ("argoproj.io", "v1alpha1", "Application", "applications"),
        ] {
            define(cluster, group, version, kind, plural).await?;
        }
        let receiver = Receiver::start().await?;
        let key = cluster.bed().directory().join("publish.key");
        std::fs::write(&key, KEY)?;
        let allowed = format!("{}/hooks", receiver.address);
        let key = key.to_string_lossy();
        let args = ["--allow-address", &allowed, "--publish-key-file", &key];
        let operator = stage.operator_with("via-operator", cluster, OWNER, &args).await?;
        Ok(Self {
            cluster,
            operator,
            receiver,
        })
    }

    async fn play(&'static self, stage: &'static Stage, name: &str) -> Result<Play> {
        let mut play = Play::open_on(stage, self.cluster, name).await?;
        play.operator = &self.operator;
        Ok(play)
    }
}

/// A definition of a kind that takes everything, as far as we are concerned that of Flux and of Argo CD.
async fn define(cluster: &Cluster, group: &str, version: &str, kind: &str, plural: &str) -> Result<()> {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
            "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": open } }],
        },
    });
    let apply = ["apply", "-f", "-"];
    cluster
        .kubectl_with_input(&apply, &definition.to_string())
        .await?
        .checked()?;
    let name = format!("crd/{plural}.{group}");
    let established = ["wait", "--for=condition=Established", &name];
    cluster.kubectl(&established).await?.checked().map(drop)
}

/// The owner writes the `CronJob` with this image.
async fn owner_applies(play: &Play, image: &str) -> Result<()> {
    let mut cron = workload("CronJob", "cron", image, json!({}));
    cron["metadata"]["namespace"] = play.scene.name.clone().into();
    play.scene.apply(&cron).await.map(drop)
}

/// A promotion to the `CronJob` by this way; rollouts fail soon.
async fn promote(play: &Play, target: &Value, overlay: Value) -> Result<()> {
    let mut spec = json!({ "targets": [{ "kind": "CronJob", "name": "cron", "containers": ["app"] }],
        "rollout": { "timeout": "10s", "stabilization": "0s" } });
    crate::support::merge(&mut spec["targets"][0], target.clone());
    crate::support::merge(&mut spec, overlay);
    play.promote(spec).await
}

async fn at_rest(play: &Play, digest: &str) -> Result<Value> {
    play.until(&format!("{digest} to be current and at rest"), |status| {
        status["current"]["digest"] == digest && status["rollout"].is_null() && status["phase"].is_string()
    })
    .await
}

/// Waits until an object has a value at a place.
async fn until_in(
    play: &Play,
    namespace: &str,
    (kind, name): (&str, &str),
    place: &str,
    value: &Value,
) -> Result<Value> {
    let what = format!("{kind} {name} to have {value} at {place}");
    let found = eventually(LIMIT, &what, async || {
        let object = play.scene.cluster.get(kind, namespace, name).await?;
        ensure!(
            object.pointer(place) == Some(value),
            "{:#} {:#}",
            object["data"],
            object["spec"]
        );
        Ok(object)
    });
    found
        .await
        .with_context(|| crate::support::tail(&play.operator.process().log()))
}

async fn apply(play: &Play, namespace: &str, mut manifest: Value) -> Result<()> {
    manifest["metadata"]["namespace"] = namespace.into();
    play.scene.apply(&manifest).await.map(drop)
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

#[test]
fn a_config_map_of_the_namespace_is_written_and_taken_back() -> Result<()> {
    run(async |stage| {
        let play = Theatre::get(stage).await?.play(stage, "via-map").await?;
        let here = play.scene.name.clone();
        let first = play.push("1.0.0").await?;
        owner_applies(&play, &format!("{}:1.0.0", play.uri)).await?;
        apply(&play, &here, config_map("images", &json!({ "other": "kept" }))).await?;
        let via = json!({ "via": "ConfigMap", "viaRef": { "name": "images", "key": "app.image" } });
        promote(&play, &via, json!({})).await?;
        let map = ("configmap", "images");
        let has = async |digest: &str| until_in(&play, &here, map, "/data/app.image", &play.image(digest).into()).await;
        has(&first).await?;
        owner_applies(&play, &play.image(&first)).await?;
        at_rest(&play, &first).await?;

        let second = play.push("1.1.0").await?;
        play.look().await?;
        has(&second).await?;
        owner_applies(&play, &play.image(&second)).await?;
        at_rest(&play, &second).await?;
        let status = play
            .until("the image to be good", |status| {
                status["lastGood"]["digest"] == second.as_str()
            })
            .await?;
        ensure!(status["targets"][0]["reverts"] == 0, "{status:#}");

        // An image that the owner never takes up has failed, and its trace is taken away again.
        let third = play.push("1.2.0").await?;
        play.look().await?;
        has(&third).await?;
        let status = play.taken_back(&third).await?;
        let object = has(&second).await?;
        ensure!(object["data"]["other"] == "kept", "{:#}", object["data"]);
        ensure!(status["targets"][0]["reverts"] == 0, "{status:#}");
        ensure!(status["history"][0]["outcome"] == "Succeeded", "{status:#}");
        Ok(())
    })
}

#[test]
fn a_config_map_of_another_namespace_must_name_this_one_and_one_that_is_immutable_is_refused() -> Result<()> {
    run(async |stage| {
        let play = Theatre::get(stage).await?.play(stage, "via-else").await?;
        let elsewhere = "via-else-images";
        play.scene
            .cluster
            .kubectl(&["create", "namespace", elsewhere])
            .await?
            .checked()?;
        let digest = play.push("1.0.0").await?;
        owner_applies(&play, &format!("{}:1.0.0", play.uri)).await?;
        let mut foreign = config_map("images", &json!({ "digest": "none" }));
        foreign["metadata"]["annotations"] = json!({ "ecr-operator.dev/promotable-from": "via-els,via-else-more" });
        apply(&play, elsewhere, foreign.clone()).await?;
        let via = json!({ "via": "ConfigMap",
            "viaRef": { "name": "images", "namespace": elsewhere, "key": "digest" } });
        promote(&play, &via, json!({})).await?;
        let told = async |words: &[&str]| {
            for words in words {
                play.says(words).await?;
            }
            anyhow::Ok(())
        };
        told(&[
            "ConfigMap via-else-images/images",
            "promotable-from does not name via-else",
        ])
        .await?;
        until_in(
            &play,
            elsewhere,
            ("configmap", "images"),
            "/data/digest",
            &"none".into(),
        )
        .await?;

        foreign["metadata"]["annotations"] = json!({ "ecr-operator.dev/promotable-from": "via-els, via-else" });
        apply(&play, elsewhere, foreign).await?;
        play.look().await?;
        until_in(
            &play,
            elsewhere,
            ("configmap", "images"),
            "/data/digest",
            &digest.clone().into(),
        )
        .await?;
        owner_applies(&play, &play.image(&digest)).await?;
        play.reason("Settled").await?;

        let mut fixed = config_map("fixed", &json!({ "image": "none" }));
        fixed["immutable"] = true.into();
        apply(&play, &play.scene.name, fixed).await?;
        promote(
            &play,
            &json!({ "via": "ConfigMap", "viaRef": { "name": "fixed" } }),
            json!({}),
        )
        .await?;
        told(&["ConfigMap via-else/fixed", "immutable"]).await?;
        promote(
            &play,
            &json!({ "via": "ConfigMap", "viaRef": { "name": "absent" } }),
            json!({}),
        )
        .await?;
        told(&["ConfigMap via-else/absent", "does not exist"]).await
    })
}

#[test]
fn flux_and_argo_cd_get_what_they_read() -> Result<()> {
    run(async |stage| {
        let play = Theatre::get(stage).await?.play(stage, "via-flux").await?;
        let here = play.scene.name.clone();
        let digest = play.push("1.0.0").await?;
        owner_applies(&play, &format!("{}:1.0.0", play.uri)).await?;
        let (uri, image) = (play.uri.clone(), play.image(&digest));

        let kustomization = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": { "name": "apps" },
            "spec": { "path": "./apps", "prune": true, "interval": "10m",
                "images": [{ "name": "envoy", "newTag": "v1" }, { "name": uri, "newTag": "1.0.0" }] },
        });
        apply(&play, &here, kustomization).await?;
        promote(
            &play,
            &json!({ "via": "FluxKustomization", "viaRef": { "name": "apps" } }),
            json!({}),
        )
        .await?;
        let expected = json!([{ "name": "envoy", "newTag": "v1" }, { "name": uri, "digest": digest }]);
        let name = ("kustomizations.kustomize.toolkit.fluxcd.io", "apps");
        let object = until_in(&play, &here, name, "/spec/images", &expected).await?;
        ensure!(
            object["spec"]["path"] == "./apps" && object["spec"]["prune"] == true,
            "{object:#}"
        );

        let release = json!({
            "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": { "name": "web" },
            "spec": { "interval": "10m", "values": { "replicas": 2 } },
        });
        apply(&play, &here, release).await?;
        let via = json!({ "via": "FluxHelmRelease", "viaRef": { "name": "web", "key": "docker.io/acme/web" } });
        promote(&play, &via, json!({})).await?;
        let images = json!([{ "name": "docker.io/acme/web", "newName": uri, "digest": digest }]);
        let expected = json!([{ "kustomize": { "images": images } }]);
        let name = ("helmreleases.helm.toolkit.fluxcd.io", "web");
        let object = until_in(&play, &here, name, "/spec/postRenderers", &expected).await?;
        ensure!(object["spec"]["values"] == json!({ "replicas": 2 }), "{object:#}");

        // An Application lives in Argo CD's namespace and has to consent.
        let argo = "via-argo-applications";
        play.scene
            .cluster
            .kubectl(&["create", "namespace", argo])
            .await?
            .checked()?;
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "web", "annotations": { "ecr-operator.dev/promotable-from": here } },
            "spec": { "project": "default", "source": { "path": "web", "kustomize": { "images": ["envoy:v1"] } } },
        });
        apply(&play, argo, application).await?;
        let via = json!({ "via": "ArgoApplication", "viaRef": { "name": "web", "namespace": argo, "key": "web" } });
        promote(&play, &via, json!({})).await?;
        let expected = json!(["envoy:v1", format!("web={image}")]);
        let name = ("applications.argoproj.io", "web");
        until_in(&play, argo, name, "/spec/source/kustomize/images", &expected).await?;

        owner_applies(&play, &image).await?;
        play.reason("Settled").await?;
        Ok(())
    })
}

#[test]
fn a_hook_is_told_of_an_image_and_of_the_one_before_when_it_fails() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::get(stage).await?;
        let play = theatre.play(stage, "via-hook").await?;
        let first = play.push("1.0.0").await?;
        owner_applies(&play, &format!("{}:1.0.0", play.uri)).await?;
        let via = json!({ "via": "Publish" });
        let to = |url: &str| json!({ "publishTo": { "url": url } });
        let address = &theatre.receiver.address;
        let told = async |digest: &str, count: usize| {
            let what = format!("call {count} of the hook");
            let found = eventually(LIMIT, &what, async || {
                let told = theatre.receiver.of(&play.scene.name)?;
                ensure!(told.len() >= count, "{told:#?}");
                Ok(told)
            });
            let told = found
                .await
                .with_context(|| crate::support::tail(&theatre.operator.process().log()))?;
            ensure!(told.len() == count && told[count - 1]["digest"] == digest, "{told:#?}");
            anyhow::Ok(told[count - 1].clone())
        };

        // Where the installation does not allow it, nothing is sent.
        promote(&play, &via, to(&format!("{address}/elsewhere"))).await?;
        let ready = play.reason("Refused").await?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains("does not allow") && message.contains("--allow-address"),
            "{message}"
        );
        ensure!(theatre.receiver.of(&play.scene.name)?.is_empty(), "it was told");

        promote(&play, &via, to(&format!("{address}/hooks/app"))).await?;
        let body = told(&first, 1).await?;
        ensure!(
            body["promotion"] == "app" && body["image"] == play.image(&first) && body["tag"] == "1.0.0",
            "{body:#}"
        );
        owner_applies(&play, &play.image(&first)).await?;
        at_rest(&play, &first).await?;

        let second = play.push("1.1.0").await?;
        play.look().await?;
        told(&second, 2).await?;
        owner_applies(&play, &play.image(&second)).await?;
        play.until("the image to be good", |status| {
            status["lastGood"]["digest"] == second.as_str()
        })
        .await?;

        let third = play.push("1.2.0").await?;
        play.look().await?;
        told(&third, 3).await?;
        play.taken_back(&third).await?;
        told(&second, 4).await?;
        at_rest(&play, &second).await?;
        Ok(())
    })
}
