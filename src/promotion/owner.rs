//! Which tool owns a workload, and what it needs so that it leaves the image alone.
//!
//! What each tool does with an image that somebody else wrote, and since which version it can be told not to, is known from
//! its sources: Argo CD's `ignoreDifferences` has an effect on syncs only together with `RespectIgnoreDifferences`, and its
//! `managedFieldsManagers` is dropped without a word where a field cannot be parsed; Flux has `spec.ignore` since
//! kustomize-controller 1.9.0, by the index of the container; Helm has nothing of the sort.
//!
//! A workload from `kubectl apply` is written to: whoever runs it can put the digest into the file.

use std::mem::discriminant;

use serde_json::Value;

use super::{
    facts::Writer,
    ownership,
    workload::{Selected, cut},
};
use crate::api::{PROMOTABLE_FROM_ANNOTATION, promotion::TargetKind};

/// The longest refusal or remedy, in characters: it must fit into a condition with a few words before it.
const MESSAGE_LENGTH: usize = 900;

/// The longest name that is read from labels and annotations, in characters.
const NAME_LENGTH: usize = 253;

/// A tool, with the name of its object that the workload comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The namespace is known only where Argo CD serves Applications of several.
    ArgoCd {
        application: String,
        namespace: Option<String>,
    },
    FluxKustomization {
        name: String,
        namespace: String,
    },
    FluxHelmRelease {
        name: String,
        namespace: String,
    },
    Helm {
        release: String,
    },
}

/// The tool that owns the workload and would write its image back; by marks that the tool itself sets, so that a label
/// which a chart copies from elsewhere does not count.
pub(crate) fn owner(kind: TargetKind, object: &Value) -> Option<Tool> {
    argo(kind, object).or_else(|| flux(object)).or_else(|| helm(object))
}

fn argo(kind: TargetKind, object: &Value) -> Option<Tool> {
    // `<application>:<group>/<kind>:<namespace>/<name>`; one of another object was copied, and Argo CD ignores it.
    if let Some(id) = annotation(object, "argocd.argoproj.io/tracking-id") {
        let own = format!(
            "/{}:{}/{}",
            kind.as_str(),
            object["metadata"]["namespace"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        if let Some((application, _)) = id.split_once(':').filter(|(_, rest)| rest.ends_with(&own)) {
            return Some(application_of(application));
        }
    }
    let application = label(object, "app.kubernetes.io/instance")?;
    let managers = object["metadata"]["managedFields"].as_array();
    let written = managers.into_iter().flatten().any(|entry| {
        entry["manager"]
            .as_str()
            .is_some_and(|manager| manager.starts_with("argocd"))
    });
    written.then(|| application_of(&application))
}

/// `<namespace>_<name>` where the Application is not in Argo CD's own namespace.
fn application_of(text: &str) -> Tool {
    let (namespace, application) = match text.split_once('_') {
        Some((namespace, application)) => (Some(cut(namespace, NAME_LENGTH)), application),
        None => (None, text),
    };
    Tool::ArgoCd {
        application: cut(application, NAME_LENGTH),
        namespace,
    }
}

fn flux(object: &Value) -> Option<Tool> {
    let named = |group: &str| {
        let name = label(object, &format!("{group}/name"))?;
        let namespace = label(object, &format!("{group}/namespace"))?;
        Some((name, namespace))
    };
    // Told by annotation that this object is not its business any more.
    let left_alone = annotation(object, "kustomize.toolkit.fluxcd.io/reconcile") == Some("disabled")
        || matches!(
            annotation(object, "kustomize.toolkit.fluxcd.io/ssa"),
            Some("IfNotPresent" | "Ignore")
        );
    if let Some((name, namespace)) = named("kustomize.toolkit.fluxcd.io").filter(|_| !left_alone) {
        return Some(Tool::FluxKustomization { name, namespace });
    }
    let (name, namespace) = named("helm.toolkit.fluxcd.io")?;
    Some(Tool::FluxHelmRelease { name, namespace })
}

/// Charts label with `managed-by: Helm` also what Argo CD renders from them; the annotation is set by Helm alone.
fn helm(object: &Value) -> Option<Tool> {
    let labelled = label(object, "app.kubernetes.io/managed-by")? == "Helm";
    let release = cut(annotation(object, "meta.helm.sh/release-name")?, NAME_LENGTH);
    labelled.then_some(Tool::Helm { release })
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

fn label(object: &Value, key: &str) -> Option<String> {
    object["metadata"]["labels"][key]
        .as_str()
        .map(|value| cut(value, NAME_LENGTH))
}

/// Why a workload of this tool is not written to, and what to do. `None` where there is nothing to write: without a
/// selected container, that is what is to be told.
pub(crate) fn refusal(tool: &Tool, kind: TargetKind, object: &Value, selected: &[Selected]) -> Option<String> {
    if selected.is_empty() {
        return None;
    }
    let owner = match tool {
        Tool::ArgoCd { application, .. } => format!("Argo CD application {application}"),
        Tool::FluxKustomization { name, namespace } => format!("Flux Kustomization {namespace}/{name}"),
        Tool::FluxHelmRelease { name, namespace } => format!("Flux HelmRelease {namespace}/{name}"),
        Tool::Helm { release } => format!("Helm release {release}"),
    };
    let message = format!(
        "{owner} owns it and would take the image back. {}",
        peace(tool, kind, object, selected)
    );
    Some(cut(&message, MESSAGE_LENGTH))
}

/// What ends a fight over the image: for the manager that wrote it back, else for the tool that owns the workload.
pub(crate) fn remedy(
    tool: Option<&Tool>,
    writer: Option<&Writer>,
    kind: TargetKind,
    object: &Value,
    selected: &[Selected],
) -> String {
    let manager = writer.map(|writer| writer.manager.as_str()).unwrap_or_default();
    let fights = match (tool_of(manager), tool) {
        (Some(fights), Some(owner)) if discriminant(&fights) == discriminant(owner) => Some(owner.clone()),
        (None, tool) if manager.is_empty() => tool.cloned(),
        (fights, _) => fights,
    };
    let message = match fights {
        Some(tool) => peace(&tool, kind, object, selected),
        None if manager.is_empty() => {
            "Find out who writes it with `kubectl get --show-managed-fields`, and stop that.".into()
        }
        None if manager.starts_with("kubectl") => {
            "Put the digest into the manifest that is applied, or take this target out of spec.targets.".into()
        }
        None => format!("Stop {manager} from writing this image, or take this target out of spec.targets."),
    };
    cut(&message, MESSAGE_LENGTH)
}

/// The tool that writes as this field manager, its object not being known.
fn tool_of(manager: &str) -> Option<Tool> {
    let (name, namespace) = ("<name>".to_owned(), "<namespace>".to_owned());
    match manager {
        "kustomize-controller" => Some(Tool::FluxKustomization { name, namespace }),
        "helm-controller" => Some(Tool::FluxHelmRelease { name, namespace }),
        "helm" | "Helm" => Some(Tool::Helm {
            release: "the release".into(),
        }),
        manager if manager.starts_with("argocd") => Some(Tool::ArgoCd {
            application: name,
            namespace: None,
        }),
        _ => None,
    }
}

/// The exact words for the tool.
fn peace(tool: &Tool, kind: TargetKind, object: &Value, selected: &[Selected]) -> String {
    let kind_name = kind.as_str();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match tool {
        Tool::ArgoCd { application, namespace } => {
            let group = if kind == TargetKind::CronJob { "batch" } else { "apps" };
            let paths = jq_paths(kind, selected);
            let namespace = namespace.as_deref().unwrap_or("<namespace>");
            let above = via_ref("ArgoApplication", application, namespace, object);
            format!(
                "Either set {above}, or add to that Application's spec \
                 `ignoreDifferences: [{{group: {group}, kind: {kind_name}, name: {name}, jqPathExpressions: [{paths}]}}]` \
                 and to syncPolicy.syncOptions `RespectIgnoreDifferences=true` (Argo CD 2.11 or later, 3.2 with \
                 server-side diff), then set via: Direct"
            )
        }
        Tool::FluxKustomization { name: owner, namespace } => {
            let paths = pointers(kind, selected);
            let above = via_ref("FluxKustomization", owner, namespace, object);
            format!(
                "Either set {above}, or add to that Kustomization's spec \
                 `ignore: [{{target: {{kind: {kind_name}, name: {name}}}, paths: [{paths}]}}]` \
                 (kustomize-controller 1.9.0 or later; it goes by the container's place), then set via: Direct"
            )
        }
        Tool::FluxHelmRelease { name: owner, namespace } => {
            let above = via_ref("FluxHelmRelease", owner, namespace, object);
            format!(
                "Set {above}, or via: ConfigMap with a ConfigMap that its spec.valuesFrom reads. With via: Direct each \
                 upgrade of the release takes the image back, and it is written again"
            )
        }
        Tool::Helm { release } => format!(
            "Let whoever upgrades {release} give the digest as a value of the chart, by via: Publish. With via: Direct the \
             image is written again after each `helm upgrade` of Helm 3; Helm 4 with server-side apply refuses to upgrade \
             a workload whose image another owns, unless it is given --force-conflicts"
        ),
    }
}

/// The way to write to the owner itself, with the consent that it must give from another namespace.
fn via_ref(via: &str, name: &str, namespace: &str, object: &Value) -> String {
    let here = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let consent = match here == namespace {
        true => String::new(),
        false => format!(" (annotate it with {PROMOTABLE_FROM_ANNOTATION}: {here})"),
    };
    format!("via: {via} with viaRef: {{name: {name}, namespace: {namespace}}}{consent}")
}

/// One expression for each list of containers, quoted for YAML.
fn jq_paths(kind: TargetKind, selected: &[Selected]) -> String {
    let pod = ownership::template(kind).join(".");
    let of_list = |(list, init): (&str, bool)| {
        let of_list = selected.iter().filter(|container| container.init == init);
        let names: Vec<_> = of_list
            .map(|container| format!(".name==\"{}\"", container.name))
            .collect();
        let names = names.join(" or ");
        (!names.is_empty()).then(|| format!("'.{pod}.spec.{list}[] | select({names}) | .image'"))
    };
    let paths: Vec<_> = ownership::LISTS.into_iter().filter_map(of_list).collect();
    paths.join(", ")
}

fn pointers(kind: TargetKind, selected: &[Selected]) -> String {
    let pod = ownership::template(kind).join("/");
    let paths: Vec<_> = selected
        .iter()
        .map(|container| {
            let list = if container.init { "initContainers" } else { "containers" };
            format!("/{pod}/spec/{list}/{}/image", container.index)
        })
        .collect();
    paths.join(", ")
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
