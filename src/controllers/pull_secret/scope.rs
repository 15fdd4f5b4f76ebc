//! What a namespace may pull from a registry, and in whose name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Registry,
        names::{OwnerId, RESERVED_PREFIX, RepositoryPrefix},
        registry::{AssumeRole, Permission},
    },
    control::{plan::Verdict, reason::Reason},
    controllers::access::{Denied, Request, Standing, Tenancy, access},
    digest::short,
};

/// The most characters of a session policy that STS takes.
const MOST_POLICY: usize = 2_048;

/// The most characters of a session's name and of a source identity.
const MOST_NAME: usize = 64;

/// What a token is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub role: AssumeRole,
    /// The session policy.
    pub policy: String,
    /// Tells this scope from any other: a token of another one is replaced.
    pub digest: String,
}

/// The scope of a namespace in one Registry, or why it may have no token. `labels` are those of the namespace.
pub(crate) fn scope(
    name: &str,
    registry: Option<&Registry>,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    standing: Option<Standing>,
) -> Result<Scope, Denied> {
    let role = |registry: &Registry| {
        let message =
            format!("Registry {name} has no spec.pull, which names the role whose rights the Secret would carry");
        let role = registry.spec.pull.clone();
        role.ok_or(Denied::NotAnyMore(Verdict::blocked(Reason::NotAllowed, message)))
    };
    // Without a role it does not matter what the tenants say.
    registry.map(role).transpose()?;
    let request = Request {
        registry_name: name,
        registry,
        tenancy: Some(Tenancy {
            permission: Permission::Pull,
            namespace,
            labels,
            repository: None,
        }),
    };
    let access = access(&request, Some(()).zip(standing))?;
    let (registry, role) = (access.registry, role(access.registry)?);
    let tenants = access.tenants.iter();
    let prefixes: Vec<&RepositoryPrefix> = tenants.flat_map(|tenant| &tenant.repository_prefixes).collect();
    let policy = policy(registry, namespace, &prefixes);
    if policy.len() > MOST_POLICY {
        let message = format!(
            "the tenants of Registry {name} that let namespace {namespace} pull have too many or too long repositoryPrefixes for one \
             session policy, of which AWS takes {MOST_POLICY} characters; give the namespace fewer, shorter ones in spec.tenants"
        );
        return Err(Denied::NotNow(Verdict::blocked(Reason::Invalid, message)));
    }
    let whole = [
        &policy,
        role.role_arn.as_str(),
        role.external_id.as_deref().unwrap_or_default(),
    ];
    let digest = short(&whole.map(|part| format!("{part}\0")).concat());
    Ok(Scope { role, policy, digest })
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

    fn decide(registry: Option<&Registry>, label: &str, standing: Option<Standing>) -> Result<Scope, Denied> {
        let labels = BTreeMap::from([("ecr".to_owned(), label.to_owned())]);
        scope("main", registry, "team-a", Some(&labels), standing)
    }

    fn lost(scope: &Result<Scope, Denied>) -> bool {
        matches!(
            scope,
            Err(Denied::NotAnyMore(Verdict::Blocked {
                reason: Reason::NotAllowed,
                ..
            }))
        )
    }

    fn names(prefixes: &[&str]) -> Vec<String> {
        let prefixes: Vec<RepositoryPrefix> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let prefixes: Vec<&RepositoryPrefix> = prefixes.iter().collect();
        patterns("team-a", &prefixes).into_iter().collect()
    }

    #[test]
    fn a_token_is_for_pulling_from_the_prefixes_of_the_namespace_and_for_nothing_else() {
        let Ok(scope) = decide(Some(&registry(&serde_json::json!({}))), "yes", Some(Standing::Managing)) else {
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
            let Ok(scope) = decide(Some(&registry(&spec)), "yes", Some(Standing::Managing)) else {
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
            let Ok(scope) = decide(Some(&registry), "yes", Some(Standing::Observing)) else {
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
            assert!(with(Some(standing)).is_ok());
        }
        let held = |scope| {
            matches!(
                scope,
                Err(Denied::NotNow(Verdict::Waiting {
                    reason: Reason::RegistryNotReady,
                    ..
                }))
            )
        };
        assert!(held(with(Some(Standing::NotReady("x".into())))));
        assert!(matches!(with(None), Err(Denied::NotNow(Verdict::NotYet { .. }))));
        assert!(held(decide(None, "yes", None)));
        let suspended = self::registry(&serde_json::json!({ "suspend": true }));
        assert!(held(decide(Some(&suspended), "yes", Some(Standing::Managing))));
    }

    #[test]
    fn prefixes_that_do_not_fit_into_a_session_policy_are_told() {
        let prefixes: Vec<String> = (0..50).map(|n| format!("team-{n}/services/")).collect();
        let many = serde_json::json!({ "tenants": [{
            "namespaceSelector": {}, "repositoryPrefixes": prefixes, "may": ["Pull"],
        }]});
        let Err(Denied::NotNow(Verdict::Blocked {
            reason: Reason::Invalid,
            message,
        })) = decide(Some(&registry(&many)), "yes", Some(Standing::Managing))
        else {
            panic!("not refused")
        };
        assert!(message.contains("2048 characters"), "{message}");
    }

    #[test]
    fn another_role_or_other_prefixes_are_another_scope() {
        let digest = |spec| match decide(Some(&registry(&spec)), "yes", Some(Standing::Managing)) {
            Ok(scope) => scope.digest,
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
