//! Who may write an `ImagePromotion`: those only who may themselves do what it has the operator do. Otherwise the
//! operator's rights would be everybody's.

use crate::api::PROMOTABLE_FROM_ANNOTATION;

use super::{Policy, Refusal, Rule, requests};

/// A right that a promotion lends to whoever writes it.
struct Right {
    /// Whether the promotion makes use of it.
    used: String,
    /// What it is asked for by, in words.
    by: String,
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
}

/// Each right is asked for in the whole namespace: a selector means workloads that do not exist yet. One rule a right,
/// since asking the authorizer costs a third of what one expression may cost.
fn rights() -> Vec<Right> {
    let targets = [
        ("Deployment", "apps", "deployments"),
        ("StatefulSet", "apps", "statefulsets"),
        ("DaemonSet", "apps", "daemonsets"),
        ("CronJob", "batch", "cronjobs"),
    ]
    .map(|(kind, group, resource)| Right {
        used: format!("variables.targets.exists(t, t.kind == '{kind}')"),
        by: format!("spec.targets: a target of kind {kind}"),
        group,
        resource,
        verb: "patch",
    });
    // An object of another namespace carries its owner's word for it.
    let ways = [
        ("ConfigMap", "", "configmaps"),
        ("FluxKustomization", "kustomize.toolkit.fluxcd.io", "kustomizations"),
        ("FluxHelmRelease", "helm.toolkit.fluxcd.io", "helmreleases"),
        ("ArgoApplication", "argoproj.io", "applications"),
    ]
    .map(|(via, group, resource)| Right {
        used: format!(
            "variables.targets.exists(t, has(t.via) && t.via == '{via}' && has(t.viaRef) && \
             (!has(t.viaRef.namespace) || t.viaRef.namespace == request.namespace))"
        ),
        by: format!("spec.targets: a target with via: {via}"),
        group,
        resource,
        verb: "patch",
    });
    let jobs = Right {
        used: "has(object.spec.verification) && object.spec.verification.exists(v, has(v.job))".into(),
        by: "spec.verification: a job".into(),
        group: "batch",
        resource: "jobs",
        verb: "create",
    };
    targets.into_iter().chain(ways).chain([jobs]).collect()
}

impl Right {
    fn rule(&self) -> Rule {
        let Self {
            used,
            by,
            group,
            resource,
            verb,
        } = self;
        let named = if group.is_empty() {
            (*resource).to_owned()
        } else {
            format!("{resource}.{group}")
        };
        Rule::new(
            Refusal::Forbidden,
            format!(
                "!variables.steers || !({used}) || \
                 authorizer.group('{group}').resource('{resource}').namespace(request.namespace).check('{verb}').allowed()"
            ),
            format!(
                "{by} takes the right to {verb} {named} in this namespace, which you do not have; an ImagePromotion does \
                 nothing that its writer may not do"
            ),
        )
    }
}

/// The owners of an object, which may have none.
fn owners(object: &str) -> String {
    format!("has({object}.metadata.ownerReferences) ? {object}.metadata.ownerReferences : []")
}

pub(super) fn policy() -> Policy {
    let mut rules = vec![Rule::new(
        Refusal::Invalid,
        "!has(object.spec.source.from) || object.spec.source.from.promotionRef.name != object.metadata.name || \
         (has(object.spec.source.from.promotionRef.namespace) && \
         object.spec.source.from.promotionRef.namespace != request.namespace)",
        "spec.source.from.promotionRef names this promotion itself: nothing would ever be promoted; name the promotion \
         that comes before it",
    )];
    rules.extend(rights().iter().map(Right::rule));
    Policy {
        name: "imagepromotion-rights",
        resource: "imagepromotions",
        condition: None,
        variables: vec![
            ("targets", "has(object.spec.targets) ? object.spec.targets : []".into()),
            ("new", requests::annotations("object")),
            (
                "old",
                format!("oldObject == null ? {{}} : {}", requests::annotations("oldObject")),
            ),
            ("owners", owners("object")),
            (
                "formerOwners",
                format!("oldObject == null ? [] : {}", owners("oldObject")),
            ),
            // Whether what runs may change by this, or who may follow it, or what it is deleted with: labels and other
            // annotations are anybody's to write.
            (
                "steers",
                format!(
                    "oldObject == null || object.spec != oldObject.spec || variables.owners != variables.formerOwners || \
                     ({} + ['{PROMOTABLE_FROM_ANNOTATION}']).exists(key, {})",
                    requests::keys(|name| name != "approve"),
                    requests::IS_NEW
                ),
            ),
        ],
        rules,
    }
}
