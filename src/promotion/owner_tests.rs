use serde_json::{Value, json};

use super::*;
use crate::promotion::samples::{container, cron_job, deployment, entry, image, managers, selected_app, target};

const KIND: TargetKind = TargetKind::Deployment;

fn labelled(labels: Value, annotations: Value) -> Value {
    let mut object = deployment(&image('a'));
    object["metadata"]["labels"] = labels;
    object["metadata"]["annotations"] = annotations;
    object
}

fn flux_labels(group: &str) -> Value {
    json!({ format!("{group}/name"): "apps", format!("{group}/namespace"): "flux-system" })
}

fn argo() -> Tool {
    Tool::ArgoCd {
        application: "shop".into(),
        namespace: None,
    }
}

fn written_by(manager: &str) -> Writer {
    Writer {
        manager: manager.into(),
        is_person: false,
    }
}

#[test]
fn argo_cd_owns_what_its_tracking_id_names() {
    let tracked = |id: &str| {
        owner(
            KIND,
            &labelled(json!({}), json!({ "argocd.argoproj.io/tracking-id": id })),
        )
    };
    assert_eq!(tracked("shop:apps/Deployment:team-a/web"), Some(argo()));
    let elsewhere = Tool::ArgoCd {
        application: "shop".into(),
        namespace: Some("team-a".into()),
    };
    assert_eq!(tracked("team-a_shop:apps/Deployment:team-a/web"), Some(elsewhere));
    // Copied from another object, as by a `kubectl get -o yaml | kubectl apply`.
    assert_eq!(tracked("shop:apps/Deployment:team-b/web"), None);
    assert_eq!(tracked("shop:apps/StatefulSet:team-a/web"), None);
    assert_eq!(tracked("nonsense"), None);
}

#[test]
fn the_instance_label_counts_only_with_a_manager_of_argo_cd() {
    let mut object = labelled(json!({ "app.kubernetes.io/instance": "shop" }), json!({}));
    assert_eq!(owner(KIND, &object), None);
    managers(&mut object).push(entry(
        "argocd-controller",
        "Update",
        "2026-11-24T11:48:00Z",
        &["app"],
        &json!({}),
    ));
    assert_eq!(owner(KIND, &object), Some(argo()));
}

#[test]
fn flux_owns_what_it_labels_unless_it_was_told_to_leave_it() {
    let of_kustomization =
        |annotations| owner(KIND, &labelled(flux_labels("kustomize.toolkit.fluxcd.io"), annotations));
    let kustomization = Tool::FluxKustomization {
        name: "apps".into(),
        namespace: "flux-system".into(),
    };
    assert_eq!(of_kustomization(json!({})), Some(kustomization.clone()));
    assert_eq!(
        of_kustomization(json!({ "kustomize.toolkit.fluxcd.io/reconcile": "disabled" })),
        None
    );
    assert_eq!(
        of_kustomization(json!({ "kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent" })),
        None
    );
    assert_eq!(
        of_kustomization(json!({ "kustomize.toolkit.fluxcd.io/ssa": "Merge" })),
        Some(kustomization)
    );

    let release = owner(KIND, &labelled(flux_labels("helm.toolkit.fluxcd.io"), json!({})));
    assert!(matches!(release, Some(Tool::FluxHelmRelease { .. })));
}

#[test]
fn helm_owns_what_has_its_annotation_and_not_what_a_chart_labels() {
    let labels = json!({ "app.kubernetes.io/managed-by": "Helm" });
    let release = json!({ "meta.helm.sh/release-name": "shop" });
    let helm = Tool::Helm { release: "shop".into() };
    assert_eq!(owner(KIND, &labelled(labels.clone(), release.clone())), Some(helm));
    assert_eq!(owner(KIND, &labelled(labels.clone(), json!({}))), None);
    assert_eq!(owner(KIND, &labelled(json!({}), release.clone())), None);
    // Helm leaves its marks on what Flux has it install.
    let mut both = flux_labels("helm.toolkit.fluxcd.io");
    both["app.kubernetes.io/managed-by"] = "Helm".into();
    assert!(matches!(
        owner(KIND, &labelled(both, release)),
        Some(Tool::FluxHelmRelease { .. })
    ));
}

#[test]
fn kubectl_apply_owns_nothing() {
    let object = labelled(
        json!({}),
        json!({ "kubectl.kubernetes.io/last-applied-configuration": "{}" }),
    );
    assert_eq!(owner(KIND, &object), None);
}

#[test]
fn argo_cd_is_refused_with_what_goes_into_the_application() {
    let mut object = deployment(&image('a'));
    object["spec"]["template"]["spec"]["initContainers"] = json!([container("migrate", &image('a'))]);
    let target = target(&json!({ "containers": ["app", "proxy"], "initContainers": ["migrate"] }));
    let selected = crate::promotion::workload::selected(&target, &object, &[]);
    let message = refusal(&argo(), KIND, &object, &selected).unwrap();
    for part in [
        "Argo CD application shop owns it",
        "ignoreDifferences: [{group: apps, kind: Deployment, name: web, jqPathExpressions: \
         ['.spec.template.spec.containers[] | select(.name==\"app\" or .name==\"proxy\") | .image', \
         '.spec.template.spec.initContainers[] | select(.name==\"migrate\") | .image']}]",
        "RespectIgnoreDifferences=true",
        "via: ArgoApplication with viaRef: {name: shop, namespace: <namespace>}",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_snippets_are_yaml_of_the_right_shape() {
    let object = deployment(&image('a'));
    let selected = selected_app(KIND, &object);
    let snippet = |tool: &Tool, key: &str| -> Value {
        let message = refusal(tool, KIND, &object, &selected).unwrap();
        let mut quoted = message.split('`').filter(|part| part.starts_with(key));
        serde_yaml_ng::from_str(quoted.next().unwrap()).unwrap()
    };
    let rule = &snippet(&argo(), "ignoreDifferences")["ignoreDifferences"][0];
    assert_eq!(
        rule["jqPathExpressions"][0],
        ".spec.template.spec.containers[] | select(.name==\"app\") | .image"
    );
    let flux = Tool::FluxKustomization {
        name: "apps".into(),
        namespace: "flux-system".into(),
    };
    let rule = &snippet(&flux, "ignore")["ignore"][0];
    assert_eq!(rule["target"], json!({ "kind": "Deployment", "name": "web" }));
    assert_eq!(rule["paths"], json!(["/spec/template/spec/containers/0/image"]));
}

#[test]
fn a_cron_job_is_named_by_its_own_group_and_path() {
    let object = cron_job(&image('a'));
    let selected = selected_app(TargetKind::CronJob, &object);
    let message = refusal(&argo(), TargetKind::CronJob, &object, &selected).unwrap();
    assert!(message.contains("group: batch, kind: CronJob"), "{message}");
    assert!(
        message.contains("'.spec.jobTemplate.spec.template.spec.containers[]"),
        "{message}"
    );
}

#[test]
fn helm_is_refused_with_what_an_upgrade_would_do() {
    let object = deployment(&image('a'));
    let helm = Tool::Helm { release: "shop".into() };
    let message = refusal(&helm, KIND, &object, &selected_app(KIND, &object)).unwrap();
    assert!(
        message.contains("Helm release shop owns it") && message.contains("--force-conflicts"),
        "{message}"
    );
}

#[test]
fn without_a_container_to_write_to_nothing_is_refused() {
    assert_eq!(refusal(&argo(), KIND, &deployment(&image('a')), &[]), None);
}

#[test]
fn consent_is_asked_of_an_owner_in_another_namespace_only() {
    let object = deployment(&image('a'));
    let message = |namespace: &str| {
        let tool = Tool::FluxKustomization {
            name: "apps".into(),
            namespace: namespace.into(),
        };
        refusal(&tool, KIND, &object, &selected_app(KIND, &object)).unwrap()
    };
    assert!(message("flux-system").contains("(annotate it with ecr-operator.dev/promotable-from: team-a)"));
    assert!(!message("team-a").contains("annotate"));
}

#[test]
fn the_remedy_is_for_the_manager_that_fights() {
    let object = deployment(&image('a'));
    let selected = selected_app(KIND, &object);
    let remedy_for = |manager: &str, tool: Option<&Tool>| {
        let writer = written_by(manager);
        remedy(tool, Some(&writer), KIND, &object, &selected)
    };
    assert!(remedy_for("argocd-controller", Some(&argo())).contains("viaRef: {name: shop"));
    assert!(remedy_for("argocd-controller", None).contains("viaRef: {name: <name>"));
    assert!(remedy_for("kustomize-controller", None).contains("ignore: ["));
    assert!(remedy_for("helm-controller", None).contains("via: FluxHelmRelease"));
    assert!(remedy_for("helm", Some(&argo())).contains("helm upgrade"));
    assert!(remedy_for("kubectl-client-side-apply", Some(&argo())).contains("manifest that is applied"));
    assert!(remedy_for("keel", None).contains("Stop keel"));
    assert!(remedy(Some(&argo()), None, KIND, &object, &selected).contains("viaRef: {name: shop"));
    assert!(remedy(None, None, KIND, &object, &selected).contains("--show-managed-fields"));
}

#[test]
fn messages_are_bounded_whatever_the_labels_say() {
    let long = "x".repeat(10_000);
    let labels = json!({
        "kustomize.toolkit.fluxcd.io/name": long, "kustomize.toolkit.fluxcd.io/namespace": long,
    });
    let object = labelled(labels, json!({}));
    let tool = owner(KIND, &object).unwrap();
    let message = refusal(&tool, KIND, &object, &selected_app(KIND, &object)).unwrap();
    assert!(message.chars().count() <= MESSAGE_LENGTH);
    assert!(
        remedy(None, Some(&written_by(&long)), KIND, &object, &[])
            .chars()
            .count()
            <= MESSAGE_LENGTH
    );
}
