//! What the apiserver takes as an `ImagePromotion` and what it refuses, with a sentence that names the field.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{Scene, merge, object, run};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhyQCx0E9wQWSFI9ULGwy3BuRklnt
IqozONbbdbqz11hlRJy9c7SG+hdcFl9jE9uE/dwtuwU2MqU9T/cN0YkWww==
-----END PUBLIC KEY-----
";

/// A promotion that nobody works on: it is suspended.
fn promotion(scene: &Scene, name: &str, overlay: Value) -> Value {
    let mut spec = json!({
        "source": { "repositoryRef": { "name": "app" }, "policy": { "semver": { "range": ">=1.2 <2" } } },
        "targets": [{ "kind": "Deployment", "name": "app" }],
        "suspend": true,
    });
    merge(&mut spec, overlay);
    object("ImagePromotion", name, Some(&scene.name), spec)
}

async fn accepts(scene: &Scene, overlay: Value) -> Result<Value> {
    scene.apply(&promotion(scene, "accepted", overlay)).await?;
    let accepted = scene.get("imagepromotion", "accepted").await?;
    let delete = [
        "delete",
        "imagepromotion.ecr-operator.dev",
        "accepted",
        "-n",
        &scene.name,
    ];
    scene.cluster.kubectl(&delete).await?.checked()?;
    Ok(accepted)
}

async fn rejects(scene: &Scene, overlay: Value, sentence: &str) -> Result<()> {
    let refusal = scene.refusal(&promotion(scene, "refused", overlay.clone())).await?;
    ensure!(
        refusal.contains(sentence),
        "{overlay} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

/// The source with something else in it.
fn source(overlay: Value) -> Value {
    let mut source = json!({ "repositoryRef": { "name": "app" }, "policy": { "latestPushed": {} } });
    merge(&mut source, overlay);
    json!({ "source": source })
}

fn policy(policy: Value) -> Value {
    source(Value::from_iter([("policy", policy)]))
}

fn filter(filter: Value) -> Value {
    source(Value::from_iter([("filter", filter)]))
}

fn target(overlay: Value) -> Value {
    let mut target = json!({ "kind": "Deployment", "name": "app" });
    merge(&mut target, overlay);
    json!({ "targets": [target] })
}

fn window(overlay: Value) -> Value {
    let mut window = json!({ "kind": "Allow", "from": "08:00", "to": "18:00" });
    merge(&mut window, overlay);
    json!({ "gates": { "windows": [window] } })
}

fn verification(verification: Value) -> Value {
    Value::from_iter([("verification", vec![verification])])
}

#[test]
fn a_promotion_with_everything_is_taken_as_it_is() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-whole").await?;
        let whole = json!({
            "source": {
                "registryRef": { "name": "main" }, "repositoryName": "team-a/app",
                "policy": { "semver": { "range": ">=1.2 <2 || ~3.1.0-rc.1, !=3", "preReleases": true } },
                "filter": { "include": "^v(?P<version>.*)$", "extract": "$version", "exclude": ["-dirty$", "^tmp"] },
                "platforms": ["linux/amd64", "linux/arm64/v8"],
                "from": { "promotionRef": { "name": "app", "namespace": "staging" }, "soak": "2h" },
            },
            "copyTo": { "registryRef": { "name": "live" }, "repositoryName": "team-a/app", "tag": "v1" },
            "targets": [
                { "kind": "Deployment", "name": "app", "containers": ["app", "worker"], "initContainers": ["*"], "via": "Direct" },
                { "kind": "StatefulSet", "selector": { "matchLabels": { "app": "app" } } },
                { "kind": "DaemonSet", "selector": {}, "via": "Publish" },
                { "kind": "CronJob", "name": "app", "via": "ConfigMap", "viaRef": { "name": "images", "key": "app" } },
                { "kind": "Deployment", "name": "other", "via": "ArgoApplication",
                  "viaRef": { "name": "app", "namespace": "argocd", "key": "helm:image.tag" } },
            ],
            "gates": {
                "scan": { "maxCritical": 0, "maxHigh": 3, "maxMedium": 50, "fixableOnly": true, "onUnavailable": "Allow",
                    "ignore": [{ "id": "CVE-2026-12345", "reason": "not reachable", "expires": "2027-01-01T00:00:00Z" }] },
                "signature": { "cosign": [{ "key": KEY }] },
                "approval": { "required": 2 },
                "windows": [
                    { "kind": "Allow", "days": ["Mon", "Tue"], "from": "08:00", "to": "24:00", "timeZone": "Europe/Berlin" },
                    { "kind": "Allow", "from": "22:00", "to": "06:00" },
                    { "kind": "Deny", "start": "2026-12-20T00:00:00Z", "end": "2027-01-04T08:00:00+01:00" },
                ],
                "minAge": "1h30m",
            },
            "rollout": { "order": "InOrder", "timeout": "20m", "stabilization": "0s", "maxRestarts": 0 },
            "verification": [
                { "job": { "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "t", "image": "i" }] } } } },
                  "timeout": "5m" },
                { "prometheus": { "address": "http://prometheus.monitoring:9090", "query": "sum(rate(errors[5m]))",
                  "successWhen": "< 0.01", "interval": "15s", "hold": "5m" } },
            ],
            "rollback": { "onFailure": true, "onScanRegression": true, "until": "Resume" },
            "pin": { "digest": DIGEST, "reason": "release freeze" },
            "reject": [{ "digest": DIGEST.replace("aaa", "bbb"), "reason": "loses orders" }],
            "onVerified": { "tag": "live" },
            "publishTo": { "url": "https://ci.example.com/hook" },
            "interval": "1d",
            "historyLimit": 50,
            "suspend": true,
        });
        // `!=` is no comparison of a range.
        rejects(&scene, whole.clone(), "policy.semver.range is not a range").await?;
        let mut good = whole;
        good["source"]["policy"]["semver"]["range"] = ">=1.2 <2 || ~3.1.0-rc.1, >3".into();
        let taken = accepts(&scene, good.clone()).await?;
        for (field, value) in good.as_object().context("a map")? {
            // Defaults are added inside of these.
            if !["targets", "gates", "verification"].contains(&field.as_str()) {
                ensure!(&taken["spec"][field] == value, "{field}: {}", taken["spec"][field]);
            }
        }
        Ok(())
    })
}

/// The rules are affordable: the apiserver refuses an object whose rules cost more than it grants.
#[test]
fn a_promotion_at_all_its_limits_is_taken() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-limit").await?;
        let long = |length: usize| "x".repeat(length);
        let image = |number: u8| json!({ "digest": format!("sha256:{number:064x}"), "reason": long(256) });
        let ways = ["ConfigMap", "FluxKustomization", "FluxHelmRelease", "ArgoApplication"];
        let kinds = ["Deployment", "StatefulSet", "DaemonSet", "CronJob"];
        let targets: Vec<Value> = (0..16)
            .map(|number| {
                json!({
                    "kind": kinds[number / 4], "name": long(253), "via": ways[number % 4],
                    "viaRef": { "name": long(253), "namespace": "prom-limit", "key": long(253) },
                    "containers": vec![long(63); 20], "initContainers": vec![long(63); 20],
                })
            })
            .collect();
        let window = json!({ "kind": "Deny", "days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
            "from": "08:00", "to": "18:00", "timeZone": "America/Argentina/ComodRivadavia" });
        let ignored = json!({ "id": long(128), "reason": long(256), "expires": "2027-01-01T00:00:00Z" });
        let key = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", long(970));
        let job = json!({ "job": { "spec": { "template": { "text": long(100_000) } } } });
        let mut spec = source(json!({
            "policy": { "semver": { "range": "1.2.3-a || ".repeat(23) + "1" } },
            "filter": { "include": "(x*)*".repeat(51), "exclude": vec!["(x*)*".repeat(51); 10], "extract": long(64) },
            "platforms": vec!["linux/amd64"; 8],
            "from": { "promotionRef": { "name": long(253), "namespace": long(63) } },
        }));
        let rest = json!({
            "targets": targets,
            "gates": {
                "scan": { "ignore": vec![ignored; 100] },
                "signature": { "cosign": vec![json!({ "key": key }); 5] },
                "windows": vec![window; 20],
            },
            "verification": vec![job; 8],
            "reject": (0..50).map(image).collect::<Vec<_>>(),
            "pin": image(99),
        });
        merge(&mut spec, rest);
        // Beyond what kubectl apply can note on an object.
        let manifest = promotion(&scene, "accepted", spec);
        let create = async |verb: &str| {
            let arguments = [verb, "-f", "-"];
            scene
                .cluster
                .kubectl_with_input(&arguments, &manifest.to_string())
                .await?
                .checked()
        };
        create("create").await?;
        create("replace").await.map(drop)
    })
}

#[test]
fn what_is_left_out_has_its_documented_default() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-defaults").await?;
        let spec = accepts(&scene, json!({ "gates": { "approval": {}, "scan": {} } })).await?["spec"].take();
        for (pointer, value) in [
            ("/interval", json!("5m")),
            ("/historyLimit", json!(10)),
            ("/targets/0/containers", json!(["*"])),
            ("/targets/0/via", json!("Auto")),
            ("/rollout/timeout", json!("10m")),
            ("/rollout/stabilization", json!("1m")),
            ("/rollout/maxRestarts", json!(3)),
            ("/rollback/onFailure", json!(true)),
            ("/rollback/until", json!("NewerImage")),
            ("/gates/approval/required", json!(1)),
            ("/gates/scan/maxCritical", json!(0)),
        ] {
            ensure!(spec.pointer(pointer) == Some(&value), "{pointer}: {spec}");
        }
        Ok(())
    })
}

#[test]
fn a_source_is_one_repository_and_one_way_to_choose() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-source").await?;
        for choice in [
            json!({ "tag": { "name": "live" } }),
            json!({ "digest": DIGEST }),
            json!({ "latestPushed": {} }),
            json!({ "alphabetical": {} }),
            json!({ "numerical": { "order": "Descending" } }),
        ] {
            accepts(&scene, policy(choice)).await?;
        }
        for range in [
            "1.2.3",
            "=v1.2.3",
            "^1 || ^2",
            "1.x",
            "*",
            ">= 1.2.0-rc.1 < 2",
            "~1.4,<1.4.9",
        ] {
            accepts(&scene, policy(json!({ "semver": { "range": range } }))).await?;
        }
        let one = "exactly one of semver, tag, digest, latestPushed, alphabetical and numerical";
        rejects(&scene, policy(json!({})), one).await?;
        rejects(&scene, policy(json!({ "latestPushed": {}, "digest": DIGEST })), one).await?;
        rejects(&scene, source(json!({ "policy": null })), "spec.source.policy").await?;
        rejects(&scene, json!({ "source": null }), "spec.source").await?;
        for range in [
            "",
            ">=",
            "one",
            "1.2.3.4",
            "1 <> 2",
            "|| 1",
            "1 ||",
            ">=1 |",
            "1.2.3; 2",
            "1 - 2",
            // What the operator could not read must not be taken either.
            "01.2",
            "1.x.3",
            ">=*",
            "1.2-rc.1",
            "1.2.3-01",
            "99999999999999999",
        ] {
            rejects(
                &scene,
                policy(json!({ "semver": { "range": range } })),
                "policy.semver.range",
            )
            .await?;
        }
        let long = "1 ".repeat(129);
        rejects(
            &scene,
            policy(json!({ "semver": { "range": long } })),
            "policy.semver.range",
        )
        .await?;
        rejects(&scene, policy(json!({ "tag": { "name": "-x" } })), "policy.tag.name").await?;
        rejects(&scene, policy(json!({ "digest": "sha256:12" })), "policy.digest").await?;
        rejects(
            &scene,
            policy(json!({ "numerical": { "order": "Up" } })),
            "numerical.order",
        )
        .await?;

        let either = "source takes either repositoryRef, or registryRef together with repositoryName";
        for wrong in [
            json!({ "repositoryRef": null }),
            json!({ "registryRef": { "name": "main" } }),
            json!({ "repositoryRef": null, "registryRef": { "name": "main" } }),
            json!({ "repositoryRef": null, "repositoryName": "a/b" }),
            json!({ "registryRef": { "name": "main" }, "repositoryName": "a/b" }),
        ] {
            rejects(&scene, source(wrong), either).await?;
        }
        rejects(
            &scene,
            source(json!({ "platforms": ["linux"] })),
            "spec.source.platforms",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn filters_are_regular_expressions() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-filter").await?;
        accepts(
            &scene,
            filter(json!({ "include": "x".repeat(256), "exclude": vec!["x".repeat(256); 10] })),
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "include": "(" })),
            "filter.include is not a regular expression of RE2",
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "include": "a(?=b)" })),
            "filter.include is not a regular expression",
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "exclude": ["ok", "["] })),
            "filter.exclude has an entry that is not a regular",
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "exclude": vec!["x"; 11] })),
            "spec.source.filter.exclude",
        )
        .await?;
        rejects(
            &scene,
            filter(json!({ "extract": "$1" })),
            "filter.extract names groups of filter.include",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn a_promotion_does_not_wait_for_itself() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-soak").await?;
        let from = |reference: Value| source(json!({ "from": { "promotionRef": reference, "soak": "1h" } }));
        let itself = "names this promotion itself";
        rejects(&scene, from(json!({ "name": "refused" })), itself).await?;
        rejects(
            &scene,
            from(json!({ "name": "refused", "namespace": "prom-soak" })),
            itself,
        )
        .await?;
        accepts(&scene, from(json!({ "name": "accepted", "namespace": "staging" }))).await?;
        accepts(&scene, from(json!({ "name": "staging" }))).await?;
        Ok(())
    })
}

#[test]
fn targets_say_which_workload_and_which_way() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-targets").await?;
        rejects(&scene, target(json!({ "kind": "ReplicaSet" })), "spec.targets[0].kind").await?;
        rejects(&scene, target(json!({ "kind": null })), "spec.targets[0].kind").await?;
        let either = "a target has either a name or a selector";
        rejects(&scene, target(json!({ "name": null })), either).await?;
        rejects(&scene, target(json!({ "selector": {} })), either).await?;
        rejects(
            &scene,
            target(json!({ "containers": vec!["x"; 21] })),
            "spec.targets[0].containers",
        )
        .await?;
        rejects(&scene, target(json!({ "via": "Magic" })), "spec.targets[0].via").await?;
        let way = "viaRef names the object that the digest is written to";
        let reference = json!({ "name": "app" });
        for via in ["FluxKustomization", "FluxHelmRelease", "ArgoApplication", "ConfigMap"] {
            accepts(&scene, target(json!({ "via": via, "viaRef": reference }))).await?;
            rejects(&scene, target(json!({ "via": via })), way).await?;
        }
        for via in ["Auto", "Direct"] {
            rejects(&scene, target(json!({ "via": via, "viaRef": reference })), way).await?;
        }
        rejects(&scene, target(json!({ "viaRef": reference })), way).await?;
        rejects(
            &scene,
            target(json!({ "via": "Publish" })),
            "spec.publishTo is required where a target's via is Publish",
        )
        .await?;
        let mut published = target(json!({ "via": "Publish" }));
        published["publishTo"] = json!({ "url": "ftp://ci" });
        rejects(&scene, published, "spec.publishTo.url").await?;
        let many = vec![json!({ "kind": "Deployment", "name": "app" }); 17];
        rejects(&scene, json!({ "targets": many }), "spec.targets").await?;
        Ok(())
    })
}

#[test]
fn a_promotion_has_something_to_do() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-idle").await?;
        let nothing = "there is nothing to do";
        rejects(&scene, json!({ "targets": null }), nothing).await?;
        rejects(&scene, json!({ "targets": [] }), nothing).await?;
        let copy = json!({ "repositoryRef": { "name": "copy" } });
        accepts(&scene, json!({ "targets": null, "copyTo": copy })).await?;
        accepts(&scene, json!({ "targets": null, "onVerified": { "tag": "live" } })).await?;
        let either = "copyTo takes either repositoryRef, or registryRef together with repositoryName";
        rejects(&scene, json!({ "copyTo": {} }), either).await?;
        rejects(&scene, json!({ "copyTo": { "repositoryName": "a/b" } }), either).await?;
        Ok(())
    })
}

#[test]
fn windows_open_at_some_time() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-windows").await?;
        accepts(
            &scene,
            window(json!({ "from": "00:00", "to": "24:00", "timeZone": "America/New_York" })),
        )
        .await?;
        rejects(
            &scene,
            window(json!({ "to": "08:00" })),
            "a window whose from equals its to never opens",
        )
        .await?;
        rejects(
            &scene,
            window(json!({ "timeZone": "Europe/Atlantis" })),
            "timeZone is not a time zone",
        )
        .await?;
        rejects(&scene, window(json!({ "timeZone": "" })), "timeZone").await?;
        rejects(&scene, window(json!({ "from": "8:00" })), "windows[0].from").await?;
        rejects(&scene, window(json!({ "from": "24:00" })), "windows[0].from").await?;
        rejects(&scene, window(json!({ "to": "24:01" })), "windows[0].to").await?;
        rejects(&scene, window(json!({ "days": ["Someday"] })), "windows[0].days").await?;
        rejects(&scene, window(json!({ "kind": "Open" })), "windows[0].kind").await?;
        let form = "a window has either from and to, times of the day, or start and end, points in time";
        rejects(&scene, window(json!({ "to": null })), form).await?;
        rejects(&scene, window(json!({ "from": null, "to": null })), form).await?;
        let once = |start: &str, end: &str| json!({ "from": null, "to": null, "start": start, "end": end });
        accepts(&scene, window(once("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"))).await?;
        rejects(
            &scene,
            window(json!({ "start": "2026-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z" })),
            form,
        )
        .await?;
        let never = "a window whose end is not after its start never opens";
        rejects(
            &scene,
            window(once("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")),
            never,
        )
        .await?;
        rejects(
            &scene,
            window(once("2026-01-01T00:00:00Z", "2026-01-01T00:30:00+01:00")),
            never,
        )
        .await?;
        rejects(
            &scene,
            window(once("tomorrow", "2026-01-01T00:00:00Z")),
            "windows[0].start",
        )
        .await?;
        let mut zoned = once("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        zoned["timeZone"] = "UTC".into();
        rejects(&scene, window(zoned), "days and timeZone go with from and to").await?;
        Ok(())
    })
}

#[test]
fn gates_and_verifications_can_be_judged() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-gates").await?;
        let gates = |gates: Value| json!({ "gates": gates });
        let ignored = |overlay: Value| {
            let mut entry = json!({ "id": "CVE-1", "reason": "r", "expires": "2027-01-01T00:00:00Z" });
            merge(&mut entry, overlay);
            gates(json!({ "scan": { "ignore": [entry] } }))
        };
        accepts(&scene, ignored(json!({}))).await?;
        rejects(&scene, ignored(json!({ "reason": "" })), "ignore[0].reason").await?;
        rejects(&scene, ignored(json!({ "expires": null })), "ignore[0].expires").await?;
        rejects(
            &scene,
            gates(json!({ "scan": { "maxCritical": -1 } })),
            "scan.maxCritical",
        )
        .await?;
        rejects(
            &scene,
            gates(json!({ "approval": { "required": 0 } })),
            "approval.required",
        )
        .await?;
        rejects(
            &scene,
            gates(json!({ "signature": { "cosign": [] } })),
            "signature.cosign",
        )
        .await?;
        let key = "x".repeat(200);
        rejects(
            &scene,
            gates(json!({ "signature": { "cosign": [{ "key": key }] } })),
            "is a public key in PEM",
        )
        .await?;
        rejects(&scene, gates(json!({ "minAge": "soon" })), "gates.minAge").await?;

        let either = "a verification is either a job or a prometheus query";
        rejects(&scene, verification(json!({})), either).await?;
        let query = |overlay: Value| {
            let mut query = json!({ "address": "http://prometheus:9090", "query": "up", "successWhen": ">= 1" });
            merge(&mut query, overlay);
            verification(json!({ "prometheus": query }))
        };
        accepts(&scene, query(json!({}))).await?;
        rejects(
            &scene,
            query(json!({ "successWhen": "about 1" })),
            "prometheus.successWhen",
        )
        .await?;
        rejects(
            &scene,
            query(json!({ "address": "file:///etc/passwd" })),
            "prometheus.address",
        )
        .await?;
        rejects(
            &scene,
            query(json!({ "address": "http://user@prometheus" })),
            "prometheus.address",
        )
        .await?;
        rejects(&scene, query(json!({ "query": "" })), "prometheus.query").await?;
        let both = json!({ "job": { "spec": {} }, "prometheus": query(json!({}))["verification"][0]["prometheus"] });
        rejects(&scene, verification(both), either).await?;
        Ok(())
    })
}

#[test]
fn limits_and_what_excludes_what() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("prom-limits").await?;
        for interval in ["30s", "1h30m", "24h", "1d"] {
            accepts(&scene, json!({ "interval": interval })).await?;
        }
        for interval in ["29s", "0s", "0m", "24h1s", "0d30s", "2d", "1d1s", "25h", "99999h"] {
            rejects(&scene, json!({ "interval": interval }), "spec.interval is 30s to 1d").await?;
        }
        rejects(&scene, json!({ "interval": "often" }), "spec.interval").await?;
        rejects(&scene, json!({ "historyLimit": 0 }), "spec.historyLimit").await?;
        rejects(&scene, json!({ "historyLimit": 51 }), "spec.historyLimit").await?;
        rejects(
            &scene,
            json!({ "rollout": { "maxRestarts": -1 } }),
            "rollout.maxRestarts",
        )
        .await?;
        rejects(&scene, json!({ "rollback": { "until": "Tomorrow" } }), "rollback.until").await?;
        let image = json!({ "digest": DIGEST, "reason": "r" });
        accepts(&scene, json!({ "pin": image })).await?;
        accepts(&scene, json!({ "reject": [image] })).await?;
        rejects(
            &scene,
            json!({ "pin": image, "reject": [image] }),
            "spec.pin names a digest that spec.reject forbids",
        )
        .await?;
        rejects(&scene, json!({ "pin": { "digest": DIGEST } }), "spec.pin.reason").await?;
        rejects(
            &scene,
            json!({ "reject": [{ "digest": "v1", "reason": "r" }] }),
            "spec.reject[0].digest",
        )
        .await?;
        rejects(&scene, json!({ "reject": vec![image; 51] }), "spec.reject").await?;
        rejects(&scene, json!({ "onVerified": { "tag": ".x" } }), "spec.onVerified.tag").await?;
        rejects(&scene, json!({ "polcy": {} }), "unknown field").await?;
        Ok(())
    })
}
