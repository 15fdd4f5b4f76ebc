use super::access::{Denied, Grants, Request, Standing, Tenancy, access};
use crate::{
    api::{
        Registry, Repository,
        names::RepositoryName,
        registry::{Permission, RegistryMode, RegistrySpec, Tenant, documents::RegistryDocuments},
        repository::{RegistryRef, RepositorySpec},
    },
    control::{
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
};

const OWN: &str = "111122223333";

fn tenant(selector: serde_json::Value, prefixes: &[&str], principals: Option<&[&str]>) -> Tenant {
    Tenant {
        namespace_selector: serde_json::from_value(selector).unwrap(),
        repository_prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        may: vec![Permission::Manage],
        principals: principals.map(|list| list.iter().map(ToString::to_string).collect()),
        organization_ids: Vec::new(),
    }
}

fn selected(prefixes: &[&str]) -> Tenant {
    tenant(serde_json::json!({ "matchLabels": { "ecr": "yes" } }), prefixes, None)
}

fn registry(tenants: Vec<Tenant>) -> Registry {
    let spec = RegistrySpec {
        region: "eu-west-1".parse().unwrap(),
        registry_id: OWN.parse().unwrap(),
        assume_role: None,
        endpoints: None,
        mode: RegistryMode::Manage,
        tenants,
        creation_defaults: None,
        events: None,
        takeover: None,
        in_use: None,
        budget: None,
        pull: None,
        replication: None,
        documents: RegistryDocuments::default(),
        suspend: false,
    };
    Registry::new("main", spec)
}

/// What access to the registry `main` comes to: whether it may be written, and what its tenants grant.
type Decision = Result<(bool, Grants), Denied>;

fn asked(request: &Request<'_>, standing: Option<Standing>) -> Decision {
    access(request, Some(()).zip(standing)).map(|access| (access.manage, access.grants()))
}

fn decide(registry: Option<&Registry>, labels: &[(&str, &str)], name: &str, standing: Option<Standing>) -> Decision {
    let spec: RepositorySpec =
        serde_json::from_value(serde_json::json!({ "registryRef": { "name": "main" } })).unwrap();
    assert_eq!(spec.registry_ref, RegistryRef { name: "main".into() });
    let mut repository = Repository::new("web", spec);
    repository.metadata.namespace = Some("team-a".into());
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let name = name.parse().unwrap();
    asked(
        &Request::of_repository(&repository, &name, registry, Some(&labels)),
        standing,
    )
}

fn managing(tenants: Vec<Tenant>, labels: &[(&str, &str)], name: &str) -> Decision {
    decide(Some(&registry(tenants)), labels, name, Some(Standing::Managing))
}

fn refused(decision: &Decision) -> bool {
    matches!(
        decision,
        Err(Denied::NotAnyMore(Verdict::Blocked {
            reason: Reason::NotAllowed,
            ..
        }))
    )
}

#[test]
fn without_tenants_nobody_gets_in() {
    assert!(refused(&managing(vec![], &[("ecr", "yes")], "team-a/web")));
}

#[test]
fn a_namespace_gets_in_by_its_labels_and_for_its_prefixes_only() {
    let tenants = || vec![selected(&["{namespace}/"])];
    assert!(matches!(
        managing(tenants(), &[("ecr", "yes")], "team-a/web"),
        Ok((true, _))
    ));
    assert!(refused(&managing(tenants(), &[("ecr", "no")], "team-a/web")));
    assert!(refused(&managing(tenants(), &[], "team-a/web")));
    assert!(refused(&managing(tenants(), &[("ecr", "yes")], "team-ab/web")));
    assert!(refused(&managing(tenants(), &[("ecr", "yes")], "team-b/web")));
}

#[test]
fn every_namespace_must_be_written_out_as_an_empty_selector() {
    let all = tenant(serde_json::json!({}), &["*"], None);
    assert!(managing(vec![all], &[], "anything/at-all").is_ok());
    let unknown = serde_json::json!({ "matchExpressions": [{ "key": "ecr", "operator": "Is", "values": ["yes"] }] });
    assert!(refused(&managing(
        vec![tenant(unknown, &["*"], None)],
        &[("ecr", "yes")],
        "team-a/web"
    )));
}

#[test]
fn only_tenants_that_let_the_object_in_grant_principals() {
    let tenants = vec![
        tenant(serde_json::json!({}), &["team-a/"], Some(&["444455556666"])),
        tenant(serde_json::json!({}), &["team-b/"], Some(&["999999999999"])),
        tenant(
            serde_json::json!({ "matchLabels": { "ecr": "no" } }),
            &["*"],
            Some(&["888888888888"]),
        ),
    ];
    let Ok((_, grants)) = managing(tenants, &[], "team-a/web") else {
        panic!("closed")
    };
    assert_eq!(grants.principals, Some(vec!["444455556666".to_owned()]));
}

#[test]
fn a_tenant_that_names_nobody_keeps_the_own_account_beside_one_that_names_some() {
    let all = || serde_json::json!({});
    let tenants = vec![
        tenant(all(), &["*"], None),
        tenant(all(), &["*"], Some(&["444455556666"])),
    ];
    let Ok((_, grants)) = managing(tenants, &[], "team-a/web") else {
        panic!("closed")
    };
    assert_eq!(grants.principals, Some(vec!["444455556666".to_owned(), OWN.to_owned()]));
}

#[test]
fn the_standing_of_the_registry_decides_once_the_tenant_is_let_in() {
    let registry = registry(vec![selected(&["*"])]);
    let with = |standing| decide(Some(&registry), &[("ecr", "yes")], "team-a/web", standing);
    assert!(matches!(with(None), Err(Denied::NotNow(Verdict::NotYet { .. }))));
    assert!(matches!(
        with(Some(Standing::NotReady("x".into()))),
        Err(Denied::NotNow(Verdict::Waiting { .. }))
    ));
    assert!(matches!(with(Some(Standing::Observing)), Ok((false, _))));
    assert!(matches!(
        with(Some(Standing::ManagedElsewhere("x".into()))),
        Err(Denied::NotAnyMore(_))
    ));
    assert!(refused(&decide(
        Some(&registry),
        &[],
        "team-a/web",
        Some(Standing::Managing)
    )));
}

#[test]
fn a_missing_registry_is_waited_for_and_a_suspended_one_stops_everything() {
    let missing = decide(None, &[("ecr", "yes")], "team-a/web", None);
    assert!(matches!(
        missing,
        Err(Denied::NotAnyMore(Verdict::Waiting {
            reason: Reason::RegistryNotReady,
            ..
        }))
    ));
    let mut registry = registry(vec![selected(&["*"])]);
    registry.spec.suspend = true;
    let suspended = decide(
        Some(&registry),
        &[("ecr", "yes")],
        "team-a/web",
        Some(Standing::Managing),
    );
    assert!(matches!(suspended, Err(Denied::NotNow(Verdict::Suspended { .. }))));
}

#[test]
fn a_kind_of_the_cluster_asks_no_tenant() {
    let main = registry(vec![]);
    let with = |standing| asked(&Request::of_cluster("main", Some(&main)), standing).map(|(manage, _)| manage);
    assert!(matches!(with(None), Err(Denied::NotNow(Verdict::NotYet { .. }))));
    assert!(matches!(
        with(Some(Standing::NotReady("x".into()))),
        Err(Denied::NotNow(Verdict::Waiting { .. }))
    ));
    assert_eq!(with(Some(Standing::Observing)), Ok(false));
    assert_eq!(with(Some(Standing::Managing)), Ok(true));
    assert!(matches!(
        with(Some(Standing::ManagedElsewhere("x".into()))),
        Err(Denied::NotAnyMore(_))
    ));
    assert!(matches!(
        asked(&Request::of_cluster("main", None), None),
        Err(Denied::NotAnyMore(Verdict::Waiting { .. }))
    ));
    let mut edited = main.clone();
    edited.spec.mode = RegistryMode::Observe;
    let managing = Some(Standing::Managing);
    assert!(matches!(
        asked(&Request::of_cluster("main", Some(&edited)), managing.clone()),
        Err(Denied::NotNow(Verdict::NotYet { .. }))
    ));
    edited.spec.suspend = true;
    assert!(matches!(
        asked(&Request::of_cluster("main", Some(&edited)), managing),
        Err(Denied::NotNow(Verdict::Suspended { .. }))
    ));
}

fn of_namespace<'a>(
    permission: Permission,
    registry: &'a Registry,
    repository: Option<&'a RepositoryName>,
) -> Request<'a> {
    Request {
        registry_name: "main",
        registry: Some(registry),
        tenancy: Some(Tenancy {
            permission,
            namespace: "team-a",
            labels: None,
            repository,
        }),
    }
}

/// A registry whose one tenant lets every namespace do this, with its own repositories.
fn with_permission(permission: Permission) -> Registry {
    let mut tenant = tenant(serde_json::json!({}), &["{namespace}/"], None);
    tenant.may = vec![permission];
    registry(vec![tenant])
}

#[test]
fn a_permission_opens_nothing_but_what_it_is_for() {
    let name = "team-a/web".parse().unwrap();
    let all = [Permission::Manage, Permission::Promote, Permission::Pull];
    for (given, wanted) in all.iter().flat_map(|given| all.map(|wanted| (*given, wanted))) {
        let registry = with_permission(given);
        let decision = asked(&of_namespace(wanted, &registry, Some(&name)), Some(Standing::Managing));
        assert_eq!(decision.is_ok(), given == wanted, "{given:?} {wanted:?} {decision:?}");
        assert_eq!(refused(&decision), given != wanted, "{given:?} {wanted:?} {decision:?}");
    }
}

#[test]
fn who_promotes_needs_no_writer_and_no_answer_and_its_own_repository() {
    let (name, other) = ("team-a/web".parse().unwrap(), "team-b/web".parse().unwrap());
    let registry = with_permission(Permission::Promote);
    let request = of_namespace(Permission::Promote, &registry, Some(&name));
    for standing in [
        Standing::Managing,
        Standing::Observing,
        Standing::ManagedElsewhere("x".into()),
    ] {
        assert_eq!(access(&request, Some(((), standing))).unwrap().unready, None);
    }
    let unready = access(&request, Some(((), Standing::NotReady("x".into())))).unwrap();
    assert_eq!((unready.unready.as_deref(), unready.manage), (Some("x"), false));
    let other = of_namespace(Permission::Promote, &registry, Some(&other));
    let denied = access(&other, Some(((), Standing::Managing))).unwrap_err();
    assert_eq!(
        denied.verdict().trouble(),
        Some("Registry main lets namespace team-a promote images, but not from or to team-b/web")
    );
}

#[test]
fn a_token_that_the_tenants_no_longer_grant_is_lost_even_while_the_registry_is_suspended() {
    let ask = |mut registry: Registry| {
        registry.spec.suspend = true;
        asked(
            &of_namespace(Permission::Pull, &registry, None),
            Some(Standing::Managing),
        )
    };
    assert!(refused(&ask(with_permission(Permission::Manage))));
    let held = ask(with_permission(Permission::Pull));
    assert!(
        matches!(
            held,
            Err(Denied::NotNow(Verdict::Waiting {
                reason: Reason::RegistryNotReady,
                ..
            }))
        ),
        "{held:?}"
    );
    // Whatever else an object does there waits, and loses nothing.
    let suspended = {
        let mut registry = with_permission(Permission::Pull);
        registry.spec.suspend = true;
        registry
    };
    let name = "team-a/web".parse().unwrap();
    let managing = asked(&of_namespace(Permission::Manage, &suspended, Some(&name)), None);
    assert!(
        matches!(managing, Err(Denied::NotNow(Verdict::Suspended { .. }))),
        "{managing:?}"
    );
}

#[test]
fn a_deletion_leaves_things_behind_only_where_access_is_gone_for_good() {
    let plan = |denied: Denied, goal| {
        let left = |why: &str| Plan::<()>::verdict(Verdict::Settled { message: why.into() });
        denied.plan(goal, left).verdict
    };
    let verdict = || Verdict::blocked(Reason::NotAllowed, "no tenant");
    let settled = Verdict::Settled {
        message: verdict().to_string(),
    };
    assert_eq!(plan(Denied::NotAnyMore(verdict()), Goal::Absent), settled);
    assert_eq!(plan(Denied::NotAnyMore(verdict()), Goal::Present), verdict());
    assert_eq!(plan(Denied::NotNow(verdict()), Goal::Absent), verdict());
    assert_eq!(plan(Denied::NotNow(verdict()), Goal::Present), verdict());
}

/// How the Registry is, and how it was last seen; `None`: it does not exist.
type Situation = Option<(Registry, Option<Standing>)>;

/// One character for what access came to.
fn sign(decision: &Result<(bool, Option<String>), Denied>) -> char {
    match decision {
        Ok((true, _)) => 'W',
        Ok((false, None)) => 'r',
        Ok((false, Some(_))) => 'u',
        Err(Denied::NotNow(_)) => '-',
        Err(Denied::NotAnyMore(_)) => 'x',
    }
}

/// What a Repository, a kind of the cluster, an ImagePromotion and a `PullSecret` get, in this order.
fn signs(situation: &Situation) -> String {
    let name: RepositoryName = "team-a/web".parse().unwrap();
    let registry = situation.as_ref().map(|(registry, _)| registry);
    let standing = situation.as_ref().and_then(|(_, standing)| standing.clone());
    let of_tenant = |permission, repository| {
        Some(Tenancy {
            permission,
            namespace: "team-a",
            labels: None,
            repository,
        })
    };
    let kinds = [
        of_tenant(Permission::Manage, Some(&name)),
        None,
        of_tenant(Permission::Promote, Some(&name)),
        of_tenant(Permission::Pull, None),
    ];
    let decide = |tenancy| {
        let request = Request {
            registry_name: "main",
            registry,
            tenancy,
        };
        sign(&access(&request, Some(()).zip(standing.clone())).map(|access| (access.manage, access.unready)))
    };
    kinds.into_iter().map(decide).collect()
}

#[test]
fn each_kind_gets_what_the_table_says() {
    let of = |selector: serde_json::Value, prefixes: &[&str]| {
        let mut tenant = tenant(selector, prefixes, None);
        tenant.may = vec![Permission::Manage, Permission::Promote, Permission::Pull];
        tenant
    };
    let everyone = || serde_json::json!({});
    let open = || registry(vec![of(everyone(), &["{namespace}/"])]);
    let others = || of(serde_json::json!({ "matchLabels": { "ecr": "yes" } }), &["*"]);
    let edited = |edit: fn(&mut RegistrySpec), mut registry: Registry| {
        edit(&mut registry.spec);
        registry
    };
    let suspend: fn(&mut RegistrySpec) = |spec| spec.suspend = true;
    let observe: fn(&mut RegistrySpec) = |spec| spec.mode = RegistryMode::Observe;
    let seen = |registry: Registry, standing: Standing| Some((registry, Some(standing)));
    let managing = |registry| seen(registry, Standing::Managing);
    // W: access, writing; r: access, looking; u: access, though the registry is not to be asked; -: not now; x: not any more.
    let table: Vec<(&str, &str, Situation)> = vec![
        ("no Registry", "xxx-", None),
        ("suspended", "----", managing(edited(suspend, open()))),
        (
            "suspended, no tenant",
            "---x",
            managing(edited(suspend, registry(vec![]))),
        ),
        ("no tenant", "xWxx", managing(registry(vec![]))),
        (
            "tenants of other namespaces",
            "xWxx",
            managing(registry(vec![others()])),
        ),
        // A token is for what the tenant has, whatever that is.
        (
            "other prefixes",
            "xWxr",
            managing(registry(vec![of(everyone(), &["team-b/"])])),
        ),
        ("no prefixes", "xWxx", managing(registry(vec![of(everyone(), &[])]))),
        ("no tenant, not looked at", "x-xx", Some((registry(vec![]), None))),
        ("not looked at", "----", Some((open(), None))),
        ("not ready", "--u-", seen(open(), Standing::NotReady("x".into()))),
        (
            "managed elsewhere",
            "xxrr",
            seen(open(), Standing::ManagedElsewhere("x".into())),
        ),
        ("observed", "rrrr", seen(edited(observe, open()), Standing::Observing)),
        ("observed as of a moment ago", "--rr", managing(edited(observe, open()))),
        ("managed", "WWrr", managing(open())),
    ];
    for (what, expected, situation) in table {
        assert_eq!(signs(&situation), expected, "{what}");
    }
}
