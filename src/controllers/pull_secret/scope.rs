//! What a namespace may pull from a registry, and in whose name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Registry,
        names::{OwnerId, RESERVED_PREFIX, RepositoryPrefix},
        registry::{AssumeRole, Permission},
    },
    control::reason::Reason,
    controllers::{registry::connection::Standing, repository::gate::selects},
    digest::short,
};

/// The most characters of a session policy that STS takes.
const MOST_POLICY: usize = 2_048;

/// The most characters of a session's name and of a source identity.
const MOST_NAME: usize = 64;

/// Whether an object may have a token of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open(Scope),
    /// Not now: nothing new is asked for, and what is there stays until it expires.
    Held {
        reason: Reason,
        message: String,
    },
    /// Not any more, or never: what is there goes.
    Lost {
        reason: Reason,
        message: String,
    },
    /// The Registry has not been looked at yet.
    NotYet,
}

/// What a token is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub role: AssumeRole,
    /// The session policy.
    pub policy: String,
    /// Tells this scope from any other: a token of another one is replaced.
    pub digest: String,
}

/// Decides for one Registry, by its name. `labels` are those of the object's namespace.
pub(crate) fn way(
    name: &str,
    registry: Option<&Registry>,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    standing: Option<Standing>,
) -> Way {
    let held = |reason, message| Way::Held { reason, message };
    let lost = |message| Way::Lost {
        reason: Reason::NotAllowed,
        message,
    };
    let Some(registry) = registry else {
        let message = format!("Registry {name} does not exist");
        return held(Reason::RegistryNotReady, message);
    };
    let Some(role) = &registry.spec.pull else {
        return lost(format!(
            "Registry {name} has no spec.pull, which names the role whose rights the Secret would carry"
        ));
    };
    let empty = BTreeMap::new();
    let labels = labels.unwrap_or(&empty);
    let tenants = registry
        .spec
        .tenants
        .iter()
        .filter(|tenant| tenant.may.contains(&Permission::Pull) && selects(&tenant.namespace_selector, labels));
    let prefixes: Vec<&RepositoryPrefix> = tenants.flat_map(|tenant| &tenant.repository_prefixes).collect();
    if prefixes.is_empty() {
        return lost(format!(
            "Registry {name} has no tenant that lets namespace {namespace} pull images"
        ));
    }
    if registry.spec.suspend {
        let message = format!("spec.suspend of Registry {name} is true: no token of it is renewed");
        return held(Reason::RegistryNotReady, message);
    }
    match standing {
        None => return Way::NotYet,
        Some(Standing::NotReady(message)) => return held(Reason::RegistryNotReady, message),
        // Pulling writes nothing to the registry, so that it does not matter who is its writer.
        Some(Standing::Managing | Standing::Observing | Standing::ManagedElsewhere(_)) => {}
    }
    let policy = policy(registry, namespace, &prefixes);
    if policy.len() > MOST_POLICY {
        let message = format!(
            "the tenants of Registry {name} that let namespace {namespace} pull have too many or too long repositoryPrefixes for one \
             session policy, of which AWS takes {MOST_POLICY} characters; give the namespace fewer, shorter ones in spec.tenants"
        );
        return held(Reason::Invalid, message);
    }
    let whole = [
        &policy,
        role.role_arn.as_str(),
        role.external_id.as_deref().unwrap_or_default(),
    ];
    Way::Open(Scope {
        role: role.clone(),
        digest: short(&whole.map(|part| format!("{part}\0")).concat()),
        policy,
    })
}

/// Pulling, from what the prefixes hold, and nothing else.
fn policy(registry: &Registry, namespace: &str, prefixes: &[&RepositoryPrefix]) -> String {
    let spec = &registry.spec;
    let partition = spec.region.partition();
    let (region, account) = (&spec.region, &spec.registry_id);
    let arn = |name: String| format!("arn:{partition}:ecr:{region}:{account}:repository/{name}");
    let patterns = patterns(namespace, prefixes);
    // What is the operator's own is nobody's to pull, whatever the prefixes say.
    let reaches_ours = patterns
        .iter()
        .any(|pattern| pattern == "*" || pattern.starts_with(RESERVED_PREFIX));
    let denial = match reaches_ours {
        true => format!(
            r#",{{"Effect":"Deny","Action":"ecr:*","Resource":"{}"}}"#,
            arn(format!("{RESERVED_PREFIX}*"))
        ),
        false => String::new(),
    };
    let resources: Vec<String> = patterns.into_iter().map(arn).collect();
    // Written by hand, since the order of the members would otherwise be up to the maps, and a token with it.
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"}},{{"Effect":"Allow","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer","ecr:BatchCheckLayerAvailability"],"Resource":{}}}{denial}]}}"#,
        serde_json::Value::from(resources)
    )
}

/// The names that the prefixes hold, as patterns of IAM, without those that others cover. Prefixes hold no `*` and no `?`
/// but as a whole, and neither do the names of namespaces.
fn patterns(namespace: &str, prefixes: &[&RepositoryPrefix]) -> BTreeSet<String> {
    if prefixes.iter().any(|prefix| prefix.as_str() == "*") {
        return BTreeSet::from(["*".to_owned()]);
    }
    // Whether a repository of just that name is meant, too.
    let mut bases: BTreeMap<String, bool> = BTreeMap::new();
    for prefix in prefixes {
        let resolved = prefix.as_str().replace("{namespace}", namespace);
        match resolved.strip_suffix('/') {
            Some(base) => drop(bases.entry(base.to_owned()).or_default()),
            None => drop(bases.insert(resolved, true)),
        }
    }
    let covered = |base: &str| {
        base.match_indices('/')
            .any(|(at, _)| base.get(..at).is_some_and(|above| bases.contains_key(above)))
    };
    let mut patterns = BTreeSet::new();
    for (base, exact) in bases.iter().filter(|(base, _)| !covered(base)) {
        patterns.insert(format!("{base}/*"));
        if *exact {
            patterns.insert(base.clone());
        }
    }
    patterns
}

/// The name of the sessions of an object, by which CloudTrail tells whose they are. The same for all of them: it is part of
/// AWS's messages.
pub(crate) fn session_name(namespace: &str, name: &str) -> String {
    fitting(&format!("{namespace}@{name}"))
}

/// The source identity of all sessions of an installation.
pub(crate) fn source_identity(owner: &OwnerId) -> String {
    fitting(&format!("ecr-operator@{owner}"))
}

/// The text, or its beginning and a hash of it where it is too long. It is of characters that STS takes.
fn fitting(text: &str) -> String {
    if text.len() <= MOST_NAME {
        return text.to_owned();
    }
    let hash = short(text);
    let (kept, hash) = (
        text.get(..MOST_NAME - 13).unwrap_or_default(),
        hash.get(..12).unwrap_or_default(),
    );
    format!("{kept}={hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(spec: &serde_json::Value) -> Registry {
        let mut whole = serde_json::json!({
            "region": "eu-west-1",
            "registryId": "111122223333",
            "pull": { "roleArn": "arn:aws:iam::111122223333:role/pull" },
            "tenants": [{
                "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
                "repositoryPrefixes": ["{namespace}/", "shared/base"],
                "may": ["Pull"],
            }],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        Registry::new("main", serde_json::from_value(whole).unwrap())
    }

    fn decide(registry: Option<&Registry>, label: &str, standing: Option<Standing>) -> Way {
        let labels = BTreeMap::from([("ecr".to_owned(), label.to_owned())]);
        way("main", registry, "team-a", Some(&labels), standing)
    }

    fn lost(way: &Way) -> bool {
        matches!(
            way,
            Way::Lost {
                reason: Reason::NotAllowed,
                ..
            }
        )
    }

    fn names(prefixes: &[&str]) -> Vec<String> {
        let prefixes: Vec<RepositoryPrefix> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let prefixes: Vec<&RepositoryPrefix> = prefixes.iter().collect();
        patterns("team-a", &prefixes).into_iter().collect()
    }

    #[test]
    fn a_token_is_for_pulling_from_the_prefixes_of_the_namespace_and_for_nothing_else() {
        let Way::Open(scope) = decide(Some(&registry(&serde_json::json!({}))), "yes", Some(Standing::Managing)) else {
            panic!("shut")
        };
        let policy: serde_json::Value = serde_json::from_str(&scope.policy).unwrap();
        assert_eq!(
            policy,
            serde_json::json!({ "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
                { "Effect": "Allow",
                  "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
                  "Resource": [
                      "arn:aws:ecr:eu-west-1:111122223333:repository/shared/base",
                      "arn:aws:ecr:eu-west-1:111122223333:repository/shared/base/*",
                      "arn:aws:ecr:eu-west-1:111122223333:repository/team-a/*",
                  ] },
            ]})
        );
    }

    #[test]
    fn patterns_keep_to_path_segments_and_leave_out_what_others_cover() {
        assert_eq!(names(&["{namespace}/"]), ["team-a/*"]);
        assert_eq!(names(&["{namespace}"]), ["team-a", "team-a/*"]);
        assert_eq!(
            names(&["{namespace}", "team-a/", "team-a/x/", "team-a/y"]),
            ["team-a", "team-a/*"]
        );
        assert_eq!(names(&["team-a/", "team-ab/"]), ["team-a/*", "team-ab/*"]);
        assert_eq!(names(&["team-a/", "*"]), ["*"]);
    }

    #[test]
    fn what_is_the_operators_own_is_nobodys_to_pull() {
        for prefix in ["*", "ecr-operator/", "ecr-operator", "ecr-operator/in-use"] {
            let spec = serde_json::json!({ "tenants": [{
                "namespaceSelector": {}, "repositoryPrefixes": [prefix], "may": ["Pull"],
            }]});
            let Way::Open(scope) = decide(Some(&registry(&spec)), "yes", Some(Standing::Managing)) else {
                panic!("shut")
            };
            let policy: serde_json::Value = serde_json::from_str(&scope.policy).unwrap();
            let ours = "arn:aws:ecr:eu-west-1:111122223333:repository/ecr-operator/*";
            assert_eq!(
                policy["Statement"][2],
                serde_json::json!({ "Effect": "Deny", "Action": "ecr:*", "Resource": ours })
            );
        }
    }

    #[test]
    fn the_partition_is_that_of_the_region() {
        for (region, partition) in [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")] {
            let registry = registry(&serde_json::json!({ "region": region }));
            let Way::Open(scope) = decide(Some(&registry), "yes", Some(Standing::Observing)) else {
                panic!("shut")
            };
            assert!(
                scope.policy.contains(&format!("\"arn:{partition}:ecr:{region}:")),
                "{}",
                scope.policy
            );
        }
    }

    #[test]
    fn without_a_role_or_a_tenant_that_may_pull_there_is_no_token() {
        let standing = || Some(Standing::Managing);
        assert!(lost(&decide(
            Some(&registry(&serde_json::json!({ "pull": null }))),
            "yes",
            standing()
        )));
        assert!(lost(&decide(
            Some(&registry(&serde_json::json!({ "tenants": [] }))),
            "yes",
            standing()
        )));
        assert!(lost(&decide(Some(&registry(&serde_json::json!({}))), "no", standing())));
        let managing_only = serde_json::json!({ "tenants": [{
            "namespaceSelector": {}, "repositoryPrefixes": ["*"], "may": ["Manage", "Promote"],
        }]});
        assert!(lost(&decide(Some(&registry(&managing_only)), "yes", standing())));
    }

    #[test]
    fn who_writes_to_the_registry_does_not_matter_and_whether_it_is_ready_does() {
        let registry = registry(&serde_json::json!({}));
        let with = |standing| decide(Some(&registry), "yes", standing);
        for standing in [
            Standing::Managing,
            Standing::Observing,
            Standing::ManagedElsewhere("x".into()),
        ] {
            assert!(matches!(with(Some(standing)), Way::Open(_)));
        }
        assert!(matches!(with(Some(Standing::NotReady("x".into()))), Way::Held { .. }));
        assert_eq!(with(None), Way::NotYet);
        assert!(matches!(decide(None, "yes", None), Way::Held { .. }));
        let suspended = self::registry(&serde_json::json!({ "suspend": true }));
        assert!(matches!(
            decide(Some(&suspended), "yes", Some(Standing::Managing)),
            Way::Held { .. }
        ));
    }

    #[test]
    fn prefixes_that_do_not_fit_into_a_session_policy_are_told() {
        let prefixes: Vec<String> = (0..50).map(|n| format!("team-{n}/services/")).collect();
        let many = serde_json::json!({ "tenants": [{
            "namespaceSelector": {}, "repositoryPrefixes": prefixes, "may": ["Pull"],
        }]});
        let Way::Held {
            reason: Reason::Invalid,
            message,
        } = decide(Some(&registry(&many)), "yes", Some(Standing::Managing))
        else {
            panic!("not refused")
        };
        assert!(message.contains("2048 characters"), "{message}");
    }

    #[test]
    fn another_role_or_other_prefixes_are_another_scope() {
        let digest = |spec| match decide(Some(&registry(&spec)), "yes", Some(Standing::Managing)) {
            Way::Open(scope) => scope.digest,
            other => panic!("{other:?}"),
        };
        let first = digest(serde_json::json!({}));
        assert_eq!(first, digest(serde_json::json!({ "mode": "Manage" })));
        let other_role = serde_json::json!({ "pull": { "roleArn": "arn:aws:iam::111122223333:role/other" } });
        assert_ne!(first, digest(other_role));
    }

    #[test]
    fn sessions_are_named_after_the_object_in_what_sts_takes() {
        assert_eq!(session_name("team-a", "web"), "team-a@web");
        let (long, other) = (
            session_name("team-a", &"x".repeat(253)),
            session_name("team-a", &"x".repeat(252)),
        );
        assert!(long.len() == 64 && other.len() == 64 && long != other, "{long} {other}");
        assert_eq!(source_identity(&"prod".parse().unwrap()), "ecr-operator@prod");
        assert!(source_identity(&"p".repeat(40).parse().unwrap()).len() <= 64);
    }
}
