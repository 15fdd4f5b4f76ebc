//! `kubectl ecr`: the plugin's program, run as kubectl runs it. The operator's part, the status, is written by the scenarios,
//! on a cluster where no operator runs.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Cluster, Output, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{LIMIT, Scene, Stage, object, run};

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

/// The cluster of these scenarios.
async fn scene(stage: &'static Stage, name: &str) -> Result<Scene> {
    static CLUSTER: OnceCell<&Cluster> = OnceCell::const_new();
    let cluster = CLUSTER
        .get_or_try_init(async || {
            stage
                .bare_cluster()
                .await
                .inspect(|cluster| crate::support::lasts(cluster))
        })
        .await?;
    stage.scene_on(cluster, name).await
}

/// A folder with the program under the two names by which kubectl looks for it.
async fn folder(scene: &Scene) -> Result<PathBuf> {
    let program = bed::plugin().await?;
    let folder = scene.cluster.bed().directory().join(format!("plugin-{}", scene.name));
    std::fs::create_dir_all(&folder)?;
    for name in ["kubectl-ecr", "kubectl_complete-ecr"] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(&program, link)?;
        }
    }
    Ok(folder)
}

async fn command(scene: &Scene, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(folder(scene).await?.join("kubectl-ecr"));
    command.args(arguments).env("KUBECONFIG", scene.cluster.kubeconfig());
    Ok(command)
}

/// Runs `kubectl ecr` in the scene's namespace.
async fn ecr(scene: &Scene, arguments: &[&str]) -> Result<Output> {
    let all = [arguments, &["-n", &scene.name]].concat();
    scene.cluster.bed().run(&command(scene, &all).await?, "").await
}

/// What it says where it fails.
async fn failure(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let output = ecr(scene, arguments).await?;
    ensure!(output.status.code() == Some(1), "{arguments:?}: {}", output.stdout);
    Ok(output.stderr)
}

async fn promotion(scene: &Scene, name: &str) -> Result<()> {
    let source = json!({ "repositoryRef": { "name": "app" }, "policy": { "semver": { "range": "1" } } });
    let spec = json!({ "source": source, "targets": [{ "kind": "Deployment", "name": "app" }] });
    scene
        .apply(&object("ImagePromotion", name, Some(&scene.name), spec))
        .await
        .map(drop)
}

/// Writes the status, in the operator's place.
async fn status(scene: &Scene, name: &str, status: &Value) -> Result<()> {
    let patch = json!({ "status": status }).to_string();
    let arguments = [
        "patch",
        "imagepromotion.ecr-operator.dev",
        name,
        "-n",
        &scene.name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ];
    scene.cluster.kubectl(&arguments).await?.checked().map(drop)
}

fn ready(is: &str, reason: &str, message: &str) -> Value {
    json!([{ "type": "Ready", "status": is, "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T11:00:00Z" }])
}

fn waiting() -> Value {
    let image =
        |name: &str, letter| json!({ "name": name, "digest": digest(letter), "pushedAt": "2026-11-24T09:00:00Z" });
    json!({
        "conditions": ready("False", "Blocked", "v1.2.0 waits for an approval"),
        "phase": "Waiting",
        "candidate": image("v1.2.0", 'c'),
        "current": image("v1.1.0", 'b'),
        "lastGood": image("v1.1.0", 'b'),
        "blockedBy": [{ "gate": "Approval", "message": "0 of 1 people", "since": "2026-11-24T11:00:00Z" }],
        "targets": [{ "kind": "Deployment", "name": "app", "via": "Auto", "phase": "Healthy", "digest": digest('b') }],
        "history": [
            { "id": 2, "kind": "Promotion", "image": image("v1.1.0", 'b'), "startedAt": "2026-11-24T10:00:00Z",
              "finishedAt": "2026-11-24T10:01:00Z", "outcome": "Succeeded" },
            { "id": 1, "kind": "Promotion", "image": image("v1.0.0", 'a'), "startedAt": "2026-11-23T10:00:00Z",
              "finishedAt": "2026-11-23T10:01:00Z", "outcome": "Succeeded" },
        ],
    })
}

async fn annotation(scene: &Scene, name: &str, request: &str) -> Result<String> {
    let object = scene.get("imagepromotion", name).await?;
    let value = object["metadata"]["annotations"][format!("ecr-operator.dev/{request}")].as_str();
    value
        .map(str::to_owned)
        .with_context(|| format!("{request} was not asked for: {object}"))
}

/// Answers the next request as the operator would, and returns its value.
async fn answer(scene: &Scene, name: &str, request: &str, words: &str) -> Result<String> {
    let value = eventually(LIMIT, "a request", async || annotation(scene, name, request).await).await?;
    let handled = json!({ "lastHandledRequests": { request: value }, "lastAnswer": words });
    status(scene, name, &handled).await?;
    Ok(value)
}

#[test]
fn a_request_is_written_and_its_answer_told() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ask").await?;
        for (name, arguments, expected) in [
            (
                "promote",
                &["v1.3.0", "--reason", "a good day"][..],
                "v1.3.0 a good day".to_owned(),
            ),
            (
                "rollback",
                &["v1.0.0", "--reason=it burns"],
                format!("{} it burns", digest('a')),
            ),
            ("reject", &["cccccc"], digest('c')),
            ("pin", &["--reason", "freeze"], "freeze".to_owned()),
            ("resume", &[], String::new()),
        ] {
            promotion(&scene, name).await?;
            status(&scene, name, &waiting()).await?;
            let words = format!("{name} it is");
            let all = [&[name, name, "--timeout=30s"], arguments].concat();
            let (output, value) = tokio::try_join!(ecr(&scene, &all), answer(&scene, name, name, &words))?;
            ensure!(
                output.checked()? == format!("{name}: {words}\n"),
                "the answer of {name}"
            );
            let (token, rest) = value.split_once(' ').unwrap_or((&value, ""));
            ensure!(token.ends_with('Z') && rest == expected, "{name}: {value}");
        }
        Ok(())
    })
}

#[test]
fn the_candidate_is_shown_and_approved_in_ones_own_name() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "approve").await?;
        promotion(&scene, "app").await?;
        status(&scene, "app", &waiting()).await?;
        let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
        let user = scene.cluster.kubectl(&whoami).await?.checked()?;
        let approve = ["approve", "app", "--timeout=30s"];
        let (output, value) = tokio::try_join!(ecr(&scene, &approve), answer(&scene, "app", "approve", "it counts"))?;
        let shown = output.checked()?;
        ensure!(shown.contains(&format!("candidate: v1.2.0 {}", digest('c'))), "{shown}");
        ensure!(shown.ends_with("approve: it counts\n"), "{shown}");
        ensure!(value == format!("{} {user}", digest('c')), "{value}");

        let again = ecr(&scene, &approve).await?.checked()?;
        ensure!(
            again.ends_with("approve: was asked for and answered before\n"),
            "{again}"
        );
        // An approval that was not taken in yet is not lost to another.
        let first = ["approve", "app", "v1.0.0", "--wait=false"];
        ecr(&scene, &first).await?.checked()?;
        let told = failure(&scene, &["approve", "app", "v1.1.0", "--timeout=0s"]).await?;
        ensure!(told.contains("this one would take its place"), "{told}");
        ensure!(
            annotation(&scene, "app", "approve").await? == format!("{} {user}", digest('a')),
            "the first"
        );
        answer(&scene, "app", "approve", "it counts too").await?;
        ecr(&scene, &["approve", "app", "v1.1.0", "--wait=false"])
            .await?
            .checked()?;

        status(&scene, "app", &json!({ "candidate": null })).await?;
        let none = failure(&scene, &approve).await?;
        ensure!(none.contains("app has no candidate that could be approved"), "{none}");
        Ok(())
    })
}

#[test]
fn what_goes_wrong_is_told_in_a_sentence() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "wrong").await?;
        promotion(&scene, "app").await?;
        status(&scene, "app", &waiting()).await?;
        for (arguments, sentence) in [
            (
                &["promote", "nobody"][..],
                "there is no ImagePromotion nobody in namespace wrong",
            ),
            (&["status", "nobody"], "there is no ImagePromotion nobody"),
            (&["history", "nobody", "--watch"], "there is no ImagePromotion nobody"),
            (
                &["rollback", "app", "v9"],
                "is neither a digest nor an image of this promotion",
            ),
            (&["promote", "app", "-x"], "unexpected argument"),
            (&["promote", "app", "a b"], "is not an image tag"),
            (&["reject", "app"], "required arguments"),
            (&["pin", "app", "--reason", "a\nb"], "write it in one line"),
            (
                &["resume", "app", "--timeout", "0s"],
                "the operator has not answered within 0s",
            ),
            (&["status", "-o", "xml"], "invalid value"),
            (&["status", "--context", "nowhere"], "the kubeconfig cannot be used"),
        ] {
            let told = failure(&scene, arguments).await?;
            ensure!(told.contains(sentence), "{arguments:?}: {told}");
        }
        let asked = ecr(&scene, &["promote", "app", "--wait=false"]).await?.checked()?;
        ensure!(asked == "promote: asked for\n", "{asked}");
        ensure!(
            annotation(&scene, "app", "promote").await?.ends_with('Z'),
            "a token alone"
        );

        let spec = json!({ "spec": { "suspend": true } }).to_string();
        let suspend = [
            "patch",
            "imagepromotion.ecr-operator.dev",
            "app",
            "-n",
            "wrong",
            "--type=merge",
            "-p",
            &spec,
        ];
        scene.cluster.kubectl(&suspend).await?.checked()?;
        let told = failure(&scene, &["rollback", "app"]).await?;
        ensure!(told.contains("app is suspended"), "{told}");
        Ok(())
    })
}

/// A user who may look and nothing else gets the sentence of the admission policy, or of RBAC.
#[test]
fn who_may_not_is_told_so() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "may-not").await?;
        promotion(&scene, "app").await?;
        status(&scene, "app", &waiting()).await?;
        let rbac = "rbac.authorization.k8s.io";
        let metadata = json!({ "name": "reader", "namespace": scene.name });
        let rules = json!([{ "apiGroups": ["ecr-operator.dev"], "resources": ["imagepromotions"], "verbs": ["get", "list", "watch", "patch"] }]);
        scene
            .apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }))
            .await?;
        scene
            .apply(&json!({ "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules }))
            .await?;
        let binding = json!({ "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": rbac, "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": scene.name }] });
        scene.apply(&binding).await?;
        let kubeconfig = scene.cluster.service_account_kubeconfig(&scene.name, "reader").await?;
        let as_reader = async |arguments: &[&str]| {
            let mut command = command(&scene, arguments).await?;
            command.env("KUBECONFIG", &kubeconfig);
            scene.cluster.bed().run(&command, "").await
        };
        // The namespace is that of the context.
        let shown = as_reader(&["status"]).await?.checked()?;
        ensure!(shown.contains("v1.2.0"), "{shown}");
        for (arguments, sentence) in [
            (
                &["approve", "app"][..],
                "error: approve was refused: approving takes the verb approve",
            ),
            (
                &["promote", "app"],
                "error: promote was refused: spec.targets: a target of kind Deployment takes the right",
            ),
            (&["status", "-A"], "cannot list resource"),
        ] {
            let output = as_reader(arguments).await?;
            ensure!(
                !output.status.success() && output.stderr.contains(sentence),
                "{arguments:?}: {}",
                output.stderr
            );
        }
        Ok(())
    })
}

#[test]
fn where_promotions_stand_is_shown_to_people_and_to_programs() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "show").await?;
        let empty = ecr(&scene, &["status"]).await?.checked()?;
        ensure!(empty == "there is no ImagePromotion in namespace show\n", "{empty}");
        promotion(&scene, "app").await?;
        promotion(&scene, "new").await?;
        status(&scene, "app", &waiting()).await?;

        let list = ecr(&scene, &["status"]).await?.checked()?;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = list.lines().map(words).collect();
        ensure!(lines.len() == 3 && lines[0][0] == "NAME", "{list}");
        ensure!(
            lines[1][..8]
                == [
                    "app", "v1.1.0", "v1.2.0", "Waiting", "Approval", "-", "False", "Blocked"
                ],
            "{list}"
        );
        ensure!(lines[2][..3] == ["new", "-", "-"], "{list}");
        let all = ecr(&scene, &["status", "-A"]).await?.checked()?;
        ensure!(all.starts_with("NAMESPACE") && all.contains("show "), "{all}");
        let json: Value = serde_json::from_str(&ecr(&scene, &["status", "-o", "json"]).await?.checked()?)?;
        ensure!(
            json["kind"] == "List" && json["items"][0]["metadata"]["name"] == "app",
            "{json}"
        );
        ensure!(json["items"][0]["metadata"]["managedFields"].is_null(), "{json}");

        let one = ecr(&scene, &["status", "app"]).await?.checked()?;
        for line in [
            "ImagePromotion show/app",
            "v1.2.0 waits for an approval",
            "0 of 1 people",
            "Deployment/app",
        ] {
            ensure!(one.contains(line), "{line} is not in\n{one}");
        }
        let yaml = ecr(&scene, &["status", "app", "-o", "yaml"]).await?.checked()?;
        let parsed: Value = serde_yaml_ng::from_str(&yaml)?;
        ensure!(parsed["status"]["candidate"]["name"] == "v1.2.0", "{yaml}");

        let history = ecr(&scene, &["history", "app"]).await?.checked()?;
        let ids: Vec<_> = history.lines().skip(1).map(|line| words(line)[0].clone()).collect();
        ensure!(ids == ["2", "1"], "{history}");
        let entries: Value = serde_json::from_str(&ecr(&scene, &["history", "app", "-o", "json"]).await?.checked()?)?;
        ensure!(entries[1]["image"]["name"] == "v1.0.0", "{entries}");
        let none = ecr(&scene, &["history", "new"]).await?.checked()?;
        ensure!(none == "no rollout has ended yet\n", "{none}");
        Ok(())
    })
}

#[test]
fn a_watch_tells_each_change_and_ends_when_the_promotion_has_settled() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "watch").await?;
        for (name, is, reason, code) in [("good", "True", "Settled", 0), ("bad", "False", "Denied", 1)] {
            promotion(&scene, name).await?;
            status(&scene, name, &waiting()).await?;
            let watch = ["status", name, "--watch", "-n", &scene.name];
            let command = command(&scene, &watch).await?;
            let process = scene.cluster.bed().spawn(&format!("watch-{name}"), &command)?;
            let shows = async |words: &str| {
                eventually(LIMIT, &format!("the watch to show {words}"), async || {
                    let log = process.log();
                    if log.contains(words) {
                        Ok(())
                    } else {
                        Err(anyhow!("{log}"))
                    }
                })
                .await
            };
            shows("0 of 1 people").await?;
            status(&scene, name, &json!({ "blockedBy": null, "phase": "RollingOut" })).await?;
            shows("RollingOut").await?;
            let mut conditions = ready(is, reason, "as it is");
            let mut stalled = conditions[0].clone();
            stalled["type"] = "Stalled".into();
            stalled["status"] = if code == 0 { "False" } else { "True" }.into();
            conditions.as_array_mut().context("a list")?.push(stalled);
            status(&scene, name, &json!({ "conditions": conditions })).await?;
            let ended = process.wait_exit(LIMIT).await?;
            ensure!(ended.code() == Some(code), "{name}: {ended}: {}", process.log());
            shows(&format!("{is} ({reason}): as it is")).await?;
        }
        Ok(())
    })
}

/// kubectl itself finds the plugin, and asks for completions.
#[test]
fn kubectl_finds_the_plugin_and_its_completion() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "found").await?;
        promotion(&scene, "app").await?;
        status(&scene, "app", &waiting()).await?;
        let programs = bed::control_plane().await?;
        let kubectl = async |arguments: &[&str]| {
            let mut command = Command::new(&programs.kubectl);
            let path = std::env::var("PATH").unwrap_or_default();
            command
                .args(arguments)
                .env("PATH", format!("{}:{path}", folder(&scene).await?.display()))
                .env("KUBECONFIG", scene.cluster.kubeconfig());
            scene.cluster.bed().run(&command, "").await?.checked()
        };
        let shown = kubectl(&["ecr", "status", "app", "-n", "found"]).await?;
        ensure!(shown.starts_with("ImagePromotion found/app\n"), "{shown}");
        let help = kubectl(&["ecr", "rollback", "--help"]).await?;
        ensure!(help.contains("Usage: kubectl ecr rollback"), "{help}");

        let commands = kubectl(&["__complete", "ecr", ""]).await?;
        ensure!(
            commands.contains("rollback\t") && commands.ends_with(":4\n"),
            "{commands}"
        );
        let complete = async |words: &[&str]| kubectl(&[&["__complete", "ecr", "-n", "found"], words].concat()).await;
        ensure!(complete(&["status", "a"]).await? == "app\n:4\n", "names");
        let images = complete(&["pin", "app", ""]).await?;
        ensure!(images.contains(&format!("{}\tv1.0.0\n", digest('a'))), "{images}");
        ensure!(complete(&["status", "b"]).await? == ":4\n", "nothing");
        Ok(())
    })
}
