//! Nobody uses an `ImagePromotion` to change what they could not change themselves, or approves in another's name. The
//! users are told apart by the apiserver's own RBAC.

use anyhow::{Result, bail, ensure};
use bed::{Cluster, NAMESPACE, Output, SERVICE_ACCOUNT, eventually};
use ecr_operator::api::ImagePromotion;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{LIMIT, Scene, object, run};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const EDIT: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// What everybody here may do with promotions, and nothing else.
fn promotions(verbs: &[&str]) -> Value {
    json!({ "apiGroups": ["ecr-operator.dev"], "resources": ["imagepromotions"], "verbs": verbs })
}

fn right(group: &str, resource: &str, verb: &str) -> Value {
    json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
}

/// Gives a user these rights in the scene's namespace, and no other.
async fn user(scene: &Scene, name: &str, rules: Value) -> Result<String> {
    let user = format!("{}-{name}", scene.name);
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({ "name": name, "namespace": scene.name });
    let role = json!({ "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules });
    scene.apply(&role).await?;
    bind(scene, name, &user, "Role", name).await?;
    Ok(user)
}

async fn bind(scene: &Scene, name: &str, user: &str, kind: &str, role: &str) -> Result<()> {
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
        "metadata": { "name": name, "namespace": scene.name },
        "roleRef": { "apiGroup": rbac, "kind": kind, "name": role },
        "subjects": [{ "apiGroup": rbac, "kind": "User", "name": user }],
    });
    scene.apply(&binding).await.map(drop)
}

/// A promotion with these targets, which nobody works on.
fn promotion(scene: &Scene, name: &str, targets: Value) -> Value {
    let source = json!({ "repositoryRef": { "name": "app" }, "policy": { "latestPushed": {} } });
    let mut spec = json!({ "source": source, "suspend": true });
    spec["targets"] = targets;
    object("ImagePromotion", name, Some(&scene.name), spec)
}

fn deployment() -> Value {
    json!([{ "kind": "Deployment", "name": "app" }])
}

async fn apply(scene: &Scene, user: &str, manifest: &Value) -> Result<Output> {
    let apply = ["apply", "--as", user, "-f", "-"];
    scene.cluster.kubectl_with_input(&apply, &manifest.to_string()).await
}

async fn annotate(scene: &Scene, user: &str, name: &str, request: &str) -> Result<Output> {
    let annotation = format!("ecr-operator.dev/{request}");
    let annotate = [
        "annotate",
        "imagepromotion.ecr-operator.dev",
        name,
        &annotation,
        "--overwrite",
        "--as",
        user,
        "-n",
    ];
    scene.cluster.kubectl(&[&annotate[..], &[&scene.name]].concat()).await
}

fn refused(output: &Output, sentence: &str) -> Result<()> {
    ensure!(
        !output.status.success(),
        "what should be refused was taken: {}",
        output.stdout
    );
    ensure!(
        output.stderr.contains(sentence),
        "{}\ndoes not say: {sentence}",
        output.stderr
    );
    Ok(())
}

#[test]
fn each_kind_of_target_takes_the_right_to_patch_it() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-kinds").await?;
        let reference =
            |via: &str| json!([{ "kind": "Deployment", "name": "app", "via": via, "viaRef": { "name": "x" } }]);
        // The own namespace written out is the own namespace.
        let mut written_out = reference("ConfigMap");
        written_out[0]["viaRef"]["namespace"] = scene.name.as_str().into();
        let apps = right("apps", "deployments", "patch");
        for (number, (targets, needed, group, resource)) in [
            (deployment(), vec![], "apps", "deployments"),
            (
                json!([{ "kind": "StatefulSet", "name": "x" }]),
                vec![],
                "apps",
                "statefulsets",
            ),
            (
                json!([{ "kind": "DaemonSet", "selector": {} }]),
                vec![],
                "apps",
                "daemonsets",
            ),
            (json!([{ "kind": "CronJob", "name": "x" }]), vec![], "batch", "cronjobs"),
            (reference("ConfigMap"), vec![apps.clone()], "", "configmaps"),
            (written_out, vec![apps.clone()], "", "configmaps"),
            (
                reference("FluxKustomization"),
                vec![apps.clone()],
                "kustomize.toolkit.fluxcd.io",
                "kustomizations",
            ),
            (
                reference("FluxHelmRelease"),
                vec![apps.clone()],
                "helm.toolkit.fluxcd.io",
                "helmreleases",
            ),
            (reference("ArgoApplication"), vec![apps], "argoproj.io", "applications"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut rules = vec![promotions(&EDIT)];
            rules.extend(needed);
            let manifest = promotion(&scene, &format!("p{number}"), targets);
            let without = user(&scene, &format!("without-{number}"), json!(rules)).await?;
            let refusal = apply(&scene, &without, &manifest).await?;
            refused(&refusal, &format!("the right to patch {resource}"))?;
            rules.push(right(group, resource, "patch"));
            let with = user(&scene, &format!("with-{number}"), json!(rules)).await?;
            apply(&scene, &with, &manifest).await?.checked()?;
        }
        Ok(())
    })
}

#[test]
fn a_verification_by_a_job_takes_the_right_to_create_jobs() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-jobs").await?;
        let mut rules = vec![promotions(&EDIT), right("apps", "deployments", "patch")];
        let mut manifest = promotion(&scene, "p", deployment());
        manifest["spec"]["verification"] = json!([{ "job": { "spec": {} } }]);
        let without = user(&scene, "without", json!(rules)).await?;
        refused(
            &apply(&scene, &without, &manifest).await?,
            "the right to create jobs.batch",
        )?;
        rules.push(right("batch", "jobs", "create"));
        let with = user(&scene, "with", json!(rules)).await?;
        apply(&scene, &with, &manifest).await?.checked().map(drop)
    })
}

#[test]
fn a_change_of_what_runs_takes_the_same_right_as_a_new_promotion() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-change").await?;
        let manifest = promotion(&scene, "p", deployment());
        scene.apply(&manifest).await?;
        let user = user(&scene, "editor", json!([promotions(&EDIT)])).await?;
        let sentence = "the right to patch deployments.apps";
        let mut other = manifest.clone();
        other["spec"]["source"]["policy"] = json!({ "digest": DIGEST });
        refused(&apply(&scene, &user, &other).await?, sentence)?;
        for request in [
            "promote=t1".to_owned(),
            "rollback=t1".to_owned(),
            "pin=t1".to_owned(),
            format!("reject=t1 {DIGEST}"),
            "resume=t1".to_owned(),
        ] {
            refused(&annotate(&scene, &user, "p", &request).await?, sentence)?;
        }
        // Labels and other annotations steer nothing.
        annotate(&scene, &user, "p", "reconcile=now").await?.checked()?;
        // In another namespace's object its owner has the word.
        let targets = json!([{ "kind": "Deployment", "name": "app", "via": "ArgoApplication",
            "viaRef": { "name": "app", "namespace": "argocd" } }]);
        let deployer = self::user(
            &scene,
            "deployer",
            json!([promotions(&EDIT), right("apps", "deployments", "patch")]),
        )
        .await?;
        apply(&scene, &deployer, &promotion(&scene, "elsewhere", targets))
            .await?
            .checked()?;
        annotate(&scene, &deployer, "p", "promote=t1").await?.checked()?;
        Ok(())
    })
}

#[test]
fn who_may_patch_in_another_namespace_may_not_write_here() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-elsewhere").await?;
        let editor = user(&scene, "editor", json!([promotions(&EDIT)])).await?;
        let other = stage.scene("rights-elsewhere-b").await?;
        let rules = json!([right("apps", "deployments", "patch")]);
        user(&other, "deployer", rules).await?;
        bind(&other, "editor", &editor, "Role", "deployer").await?;
        let refusal = apply(&scene, &editor, &promotion(&scene, "p", deployment())).await?;
        refused(&refusal, "the right to patch deployments.apps")
    })
}

#[test]
fn only_those_with_the_verb_approve_and_in_their_own_name() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-approve").await?;
        scene.apply(&promotion(&scene, "p", deployment())).await?;
        let all = json!([promotions(&EDIT), right("apps", "deployments", "patch")]);
        let editor = user(&scene, "editor", all.clone()).await?;
        let approver = format!("{}-approver", scene.name);
        bind(&scene, "approver", &approver, "ClusterRole", "ecr-operator-approve").await?;

        let verb = "approving takes the verb approve on this imagepromotion";
        let own = |name: &str| format!("approve={DIGEST} {name}");
        refused(&annotate(&scene, &editor, "p", &own(&editor)).await?, verb)?;
        let name = "nobody approves in another's name";
        refused(&annotate(&scene, &editor, "p", &own(&approver)).await?, name)?;
        refused(&annotate(&scene, &approver, "p", &own(&editor)).await?, name)?;
        // As long as one's own, or with it at the end or at the beginning.
        let as_long = approver.replace("approver", "somebody");
        refused(&annotate(&scene, &approver, "p", &own(&as_long)).await?, name)?;
        refused(
            &annotate(&scene, &approver, "p", &own(&format!("{approver}x"))).await?,
            name,
        )?;
        let longer = format!("approve={DIGEST} x {approver}");
        refused(&annotate(&scene, &approver, "p", &longer).await?, name)?;

        annotate(&scene, &approver, "p", &own(&approver)).await?.checked()?;
        // An approver approves and does nothing else.
        let patch = "the right to patch deployments.apps";
        refused(&annotate(&scene, &approver, "p", "promote=t1").await?, patch)?;
        let spec = r#"{"spec":{"suspend":false}}"#;
        let change = [
            "patch",
            "imagepromotion.ecr-operator.dev",
            "p",
            "--type=merge",
            "-p",
            spec,
            "--as",
            &approver,
            "-n",
        ];
        refused(
            &scene.cluster.kubectl(&[&change[..], &[&scene.name]].concat()).await?,
            patch,
        )?;

        // Nor is the verb in the role of those who write promotions.
        let writer = format!("{}-writer", scene.name);
        bind(&scene, "writer", &writer, "ClusterRole", "ecr-operator-edit").await?;
        let may = async |verb: &str| {
            let review = [
                "auth",
                "can-i",
                verb,
                "imagepromotions.ecr-operator.dev",
                "-n",
                &scene.name,
                "--as",
                &writer,
            ];
            anyhow::Ok(scene.cluster.kubectl(&review).await?.status.success())
        };
        ensure!(
            may("create").await? && may("patch").await?,
            "an editor writes promotions"
        );
        ensure!(!may("approve").await?, "an editor does not approve");

        // Others write to the object as before, the approval being on it; taking it off needs no right.
        annotate(&scene, &editor, "p", "promote=t1").await?.checked()?;
        annotate(&scene, &editor, "p", "approve-").await?.checked()?;
        refused(&annotate(&scene, &editor, "p", &own(&approver)).await?, name)?;

        // It is not carried over to another object, nor by one that is created with it.
        let mut copy = promotion(&scene, "copy", deployment());
        copy["metadata"]["annotations"] = json!({ "ecr-operator.dev/approve": format!("{DIGEST} {approver}") });
        refused(&apply(&scene, &editor, &copy).await?, name)?;
        copy["metadata"]["annotations"] = json!({ "ecr-operator.dev/approve": format!("{DIGEST} {editor}") });
        refused(&apply(&scene, &editor, &copy).await?, verb)?;

        // The verb may be given for one object.
        scene.apply(&promotion(&scene, "q", deployment())).await?;
        let mut one = promotions(&["approve"]);
        one["resourceNames"] = json!(["p"]);
        let single = user(&scene, "single", json!([promotions(&["get", "patch"]), one])).await?;
        annotate(&scene, &single, "p", &own(&single)).await?.checked()?;
        refused(&annotate(&scene, &single, "q", &own(&single)).await?, verb)
    })
}

#[test]
fn requests_that_nobody_could_answer_are_refused() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-grammar").await?;
        scene.apply(&promotion(&scene, "p", deployment())).await?;
        let admin = "kubernetes-admin-of-this-scene";
        bind_cluster_admin(&scene, admin).await?;
        for taken in [
            "promote=t1".to_owned(),
            "promote=t2 v1.2.0 because we can".to_owned(),
            format!("promote=t3 {DIGEST}"),
            "promote=t4 - because".to_owned(),
            "rollback=t1 it burns".to_owned(),
            format!("rollback=t2 {DIGEST} it burns"),
            "pin=t1".to_owned(),
            format!("reject=t1 {DIGEST}"),
            "resume=t1".to_owned(),
            format!("approve={DIGEST} {admin}"),
            format!("rollback=t1 {}", "ä".repeat(509)),
        ] {
            annotate(&scene, admin, "p", &taken).await?.checked()?;
        }
        let line = "a request is one line of at most 512 characters";
        for (refusal, sentence) in [
            ("promote=".to_owned(), "'<token> [<digest>|<tag>|-] [reason...]'"),
            ("promote=t9 sha256:12".to_owned(), "ecr-operator.dev/promote is to be"),
            ("promote=t9 -x".to_owned(), "ecr-operator.dev/promote is to be"),
            (
                "rollback=t9 sha256:12 it burns".to_owned(),
                "ecr-operator.dev/rollback is to be",
            ),
            ("pin=t9 sha256:12".to_owned(), "ecr-operator.dev/pin is to be"),
            ("reject=t9".to_owned(), "ecr-operator.dev/reject is to be"),
            ("reject=t9 v1".to_owned(), "ecr-operator.dev/reject is to be"),
            ("resume=t9 now".to_owned(), "ecr-operator.dev/resume is to be"),
            (
                format!("resume={}", "x".repeat(65)),
                "a token is any new word of at most 64 characters",
            ),
            (format!("approve={DIGEST}"), "'<digest> <user name>'"),
            (format!("approve=v1 {admin}"), "'<digest> <user name>'"),
            ("promote=t9 v1 a\nb".to_owned(), line),
            ("promote=t9 v1 \u{1b}[2J".to_owned(), line),
            (format!("rollback=t9 {}", "ä".repeat(510)), line),
        ] {
            refused(&annotate(&scene, admin, "p", &refusal).await?, sentence)?;
        }
        Ok(())
    })
}

async fn bind_cluster_admin(scene: &Scene, user: &str) -> Result<()> {
    bind(scene, "admin", user, "ClusterRole", "cluster-admin").await
}

/// The operator's `ServiceAccount` has the rights of the chart and no more.
#[test]
fn the_operator_writes_the_status_and_nothing_else_of_a_promotion() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-operator").await?;
        let mut manifest = promotion(&scene, "p", deployment());
        manifest["metadata"]["annotations"] = json!({ "ecr-operator.dev/promote": "t1" });
        scene.apply(&manifest).await?;
        let operator = Cluster::operator_user();
        let client = scene.cluster.service_account_client(NAMESPACE, SERVICE_ACCOUNT).await?;
        let api = Api::<ImagePromotion>::namespaced(client, &scene.name);
        let status = json!({ "status": { "lastAnswer": "seen", "lastHandledRequests": { "promote": "t1" } } });
        let settings = PatchParams::default();
        api.patch_status("p", &settings, &Patch::Merge(&status)).await?;
        let object = scene.get("imagepromotion", "p").await?;
        ensure!(object["status"]["lastHandledRequests"]["promote"] == "t1", "{object}");
        let spec = json!({ "spec": { "suspend": false } });
        let Err(refusal) = api.patch("p", &settings, &Patch::Merge(&spec)).await else {
            bail!("the operator changed a spec");
        };
        ensure!(refusal.to_string().contains("cannot patch resource"), "{refusal}");

        let may = async |verb: &str, resource: &str| {
            let review = ["auth", "can-i", verb, resource, "-n", &scene.name, "--as", &operator];
            anyhow::Ok(scene.cluster.kubectl(&review).await?.status.success())
        };
        for (verb, resource) in [
            ("patch", "deployments.apps"),
            ("patch", "statefulsets.apps"),
            ("watch", "daemonsets.apps"),
            ("patch", "cronjobs.batch"),
            ("list", "pods"),
            ("delete", "pods"),
            ("create", "jobs.batch"),
            // Images in use.
            ("list", "jobs.batch"),
            ("list", "replicasets.apps"),
            ("patch", "configmaps"),
        ] {
            ensure!(
                may(verb, resource).await?,
                "{SERVICE_ACCOUNT} may not {verb} {resource}"
            );
        }
        for (verb, resource) in [
            ("patch", "pods"),
            ("get", "replicasets.apps"),
            ("patch", "replicasets.apps"),
            ("delete", "jobs.batch"),
            ("deletecollection", "pods"),
            ("create", "deployments.apps"),
            ("delete", "deployments.apps"),
            ("list", "secrets"),
            ("watch", "secrets"),
            ("update", "secrets"),
            ("list", "configmaps"),
            ("create", "configmaps"),
            ("approve", "imagepromotions.ecr-operator.dev"),
            ("patch", "applications.argoproj.io"),
        ] {
            ensure!(!may(verb, resource).await?, "{SERVICE_ACCOUNT} may {verb} {resource}");
        }
        Ok(())
    })
}

/// Kubernetes' own roles hold ours; the right to approve is in none of them.
#[test]
fn editors_edit_viewers_view_and_nobody_approves_by_a_general_role() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-roles").await?;
        for (role, verbs) in [
            ("view", &["get", "list", "watch"][..]),
            ("edit", &EDIT),
            ("admin", &EDIT),
        ] {
            let user = format!("{}-{role}", scene.name);
            bind(&scene, role, &user, "ClusterRole", role).await?;
            let may = async |verb: &str| {
                let kind = "imagepromotions.ecr-operator.dev";
                let review = ["auth", "can-i", verb, kind, "-n", &scene.name, "--as", &user];
                anyhow::Ok(scene.cluster.kubectl(&review).await?.status.success())
            };
            for verb in verbs {
                // The controller manager adds ours to Kubernetes' roles a moment after the installation.
                eventually(LIMIT, &format!("{role} to {verb} promotions"), async || {
                    ensure!(may(verb).await?, "not yet");
                    Ok(())
                })
                .await?;
            }
            ensure!(!may("approve").await?, "{role} approves");
            ensure!(may("patch").await? == (role != "view"), "{role} patches");
        }
        Ok(())
    })
}

/// The apiserver checks the expressions against the schemas of the kinds, and finds nothing to warn of.
#[test]
fn the_policies_fit_the_kinds_they_are_for() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-types").await?;
        eventually(LIMIT, "the policies to be checked", async || {
            let get = ["get", "validatingadmissionpolicies", "-o", "json"];
            let policies: Value = serde_json::from_str(&scene.cluster.kubectl(&get).await?.checked()?)?;
            let mut policies = policies["items"].as_array().cloned().unwrap_or_default();
            // Other scenarios have policies of their own.
            let name = |policy: &Value| policy["metadata"]["name"].as_str().map(str::to_owned);
            policies.retain(|policy| name(policy).is_some_and(|name| name.ends_with(".ecr-operator.dev")));
            ensure!(policies.len() == 5, "{} policies", policies.len());
            for policy in policies {
                let name = &policy["metadata"]["name"];
                let checking = &policy["status"]["typeChecking"];
                ensure!(checking.is_object(), "{name} was not checked yet");
                ensure!(checking["expressionWarnings"].is_null(), "{name}: {checking}");
            }
            Ok(())
        })
        .await
    })
}
