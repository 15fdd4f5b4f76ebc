//! The same repository in other Registries: kept like the repository itself, and none for the worse of another.

mod drills;
mod given_up;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::{Fault, Policy, eventually, throughout};
use serde_json::{Value, json};

use crate::{
    replication::FAR,
    support::{LIMIT, OWNER, REGION, Scene, Stage, message, object, run},
};

/// A scene, and another whose Registry its namespace may use, too.
pub(crate) async fn open(stage: &'static Stage, name: &str) -> Result<(Scene, Scene)> {
    let scene = stage.scene(name).await?;
    let far = stage.scene(&format!("{name}-far")).await?;
    scene.registry(json!({})).await?;
    far.registry(json!({})).await?;
    Ok((scene, far))
}

/// The spec with replicas in these Registries.
pub(crate) fn with(far: &[&str], mut spec: Value) -> Value {
    spec["replicaRegistryRefs"] = far.iter().map(|name| json!({ "name": name })).collect();
    spec
}

/// What the status says of the replica in this Registry.
pub(crate) fn told<'o>(object: &'o Value, registry: &str) -> Result<&'o Value> {
    let replicas = object["status"]["replicas"].as_array().context("no replicas")?;
    let found = replicas.iter().find(|replica| replica["registry"] == registry);
    found.with_context(|| format!("{registry} is not among {replicas:?}"))
}

pub(crate) fn says(object: &Value, texts: &[&str]) -> Result<()> {
    for text in texts {
        ensure!(message(object).contains(text), "no {text:?} in {:?}", message(object));
    }
    Ok(())
}

/// What ECR has of a repository, but for what tells registries apart.
async fn settings(ecr: &aws_sdk_ecr::Client, repository: &str) -> Result<Value> {
    let found = ecr.describe_repositories().repository_names(repository).send().await?;
    let live = found.repositories().first().context("no repository")?.clone();
    let filters = live.image_tag_mutability_exclusion_filters().iter();
    let filters: Vec<&str> = filters
        .map(aws_sdk_ecr::types::ImageTagMutabilityExclusionFilter::filter)
        .collect();
    let arn = live.repository_arn().unwrap_or_default();
    let tags = ecr.list_tags_for_resource().resource_arn(arn).send().await?;
    let mut tags: Vec<(&str, &str)> = tags.tags().iter().map(|tag| (tag.key(), tag.value())).collect();
    tags.sort_unstable();
    let policy = ecr.get_repository_policy().repository_name(repository).send().await;
    let policy: Value = match &policy {
        Ok(policy) => serde_json::from_str(policy.policy_text().unwrap_or_default())?,
        Err(_) => Value::Null,
    };
    Ok(json!([
        live.image_tag_mutability().map(|value| value.as_str().to_owned()),
        filters,
        live.image_scanning_configuration()
            .map(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push),
        live.encryption_configuration()
            .map(|stored| stored.encryption_type().as_str().to_owned()),
        tags,
        policy,
    ]))
}

/// A Registry of the scene's account in another Region, which the operator's role may manage like the first.
async fn region(scene: &Scene) -> Result<String> {
    let mut statements = Vec::new();
    for region in [REGION, FAR] {
        let rights = bed::rights(&scene.account, region, OWNER, bed::MANAGES)?;
        statements.extend(rights["Statement"].as_array().cloned().unwrap_or_default());
    }
    for (at, statement) in statements.iter_mut().enumerate() {
        statement["Sid"] = json!(format!("S{at}"));
    }
    let rights = json!({ "Version": "2012-10-17", "Statement": statements });
    scene.role(Policy::Document(rights)).await?;
    let name = format!("{}-us", scene.name);
    let mut spec = scene.registry_spec();
    spec["region"] = json!(FAR);
    scene.apply(&object("Registry", &name, None, spec)).await?;
    scene.reason("registry", &name, "Settled").await?;
    Ok(name)
}

#[test]
fn the_repository_is_the_same_in_each_registry_and_a_change_arrives_in_all() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-same").await?;
        let us = region(&scene).await?;
        let admin = stage.aws.admin(&scene.account).await?;
        let places = [scene.ecr().await?, far.ecr().await?, stage.aws.ecr(FAR, &admin)];
        let principal = scene.account.clone();
        let full = |mutability: &str, scan: bool, team: &str| {
            let spec = json!({
                "imageTagMutability": mutability,
                "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "dev-*" }],
                "scanOnPush": scan,
                "encryption": { "encryptionType": "KMS" },
                "tags": { "team": team },
            });
            with(&[&far.name, &us], spec)
        };
        let equal = async |wanted: &Value| {
            for ecr in &places {
                let found = settings(ecr, "repls-same/web").await?;
                ensure!(found == *wanted, "{found} instead of {wanted}");
            }
            anyhow::Ok(())
        };
        let owner = json!(["ecr-operator.dev/owner", "bed/repls-same/web"]);
        let object = scene
            .settled("web", full("IMMUTABLE_WITH_EXCLUSION", true, "a"))
            .await?;
        let wanted = json!([
            "IMMUTABLE_WITH_EXCLUSION",
            ["dev-*"],
            true,
            "KMS",
            [owner, ["team", "a"]],
            null
        ]);
        equal(&wanted).await?;
        for (registry, account, region) in [(&far.name, &far.account, REGION), (&us, &scene.account, FAR)] {
            let replica = told(&object, registry)?;
            ensure!(replica["ready"] == true && replica["reason"] == "Settled", "{replica}");
            ensure!(replica["registryId"] == account.as_str(), "{replica}");
            let uri = replica["uri"].as_str().unwrap_or_default();
            ensure!(uri.contains(region) && uri.ends_with("/repls-same/web"), "{replica}");
        }
        let note = scene.event("web", "Created").await?;
        ensure!(
            note.contains("in Registry repls-same-far: create repository repls-same/web"),
            "{note}"
        );

        scene.settled("web", full("MUTABLE_WITH_EXCLUSION", false, "b")).await?;
        let wanted = json!([
            "MUTABLE_WITH_EXCLUSION",
            ["dev-*"],
            false,
            "KMS",
            [owner, ["team", "b"]],
            null
        ]);
        equal(&wanted).await?;

        // Each tenant is asked for itself: the own account of one registry is not that of the other.
        let mut spec = full("MUTABLE_WITH_EXCLUSION", false, "b");
        spec["policy"] = json!({ "access": { "pull": { "principals": [principal] } } });
        scene.apply(&scene.repository("web", spec)).await?;
        let object = scene.reason("repository", "web", "NotAllowed").await?;
        says(&object, &["replica in Registry repls-same-far: spec.policy names"])?;
        let policy = settings(&places[2], "repls-same/web").await?[5].clone();
        ensure!(policy["Statement"][0]["Sid"] == "EcrOperatorPull", "{policy}");
        ensure!(settings(&places[1], "repls-same/web").await?[5].is_null());
        Ok(())
    })
}

#[test]
fn at_rest_a_replica_costs_no_call_and_an_edit_of_the_object_none_where_nothing_changes() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-rest").await?;
        let spec = with(&[&far.name], json!({ "scanOnPush": true, "tags": { "a": "b" } }));
        let before = scene.settled("web", spec.clone()).await?;
        for account in [&scene.account, &far.account] {
            stage.aws.reset_calls(account, REGION).await?;
        }
        throughout(Duration::from_secs(3), "rest", async || {
            let now = scene.get("repository", "web").await?;
            ensure!(
                now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"],
                "{}",
                now["status"]
            );
            Ok(())
        })
        .await?;
        for at in [&scene, &far] {
            let calls = at.operators_calls().await?;
            ensure!(calls.keys().all(|name| name == "DescribeRepositories"), "{calls:?}");
            ensure!(calls["DescribeRepositories"] >= 2, "listings went on: {calls:?}");
        }
        let mut edited = spec;
        edited["adoption"] = json!("Adopt");
        scene.settled("web", edited).await?;
        let calls = far.operators_calls().await?;
        ensure!(calls.keys().all(|name| name == "DescribeRepositories"), "{calls:?}");
        Ok(())
    })
}

#[test]
fn drift_in_a_replica_is_mended_and_told() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-drift").await?;
        let spec = with(
            &[&far.name],
            json!({ "imageTagMutability": "IMMUTABLE", "tags": { "team": "a" } }),
        );
        scene.settled("web", spec).await?;
        let ecr = far.ecr().await?;
        ecr.put_image_tag_mutability()
            .repository_name("repls-drift/web")
            .image_tag_mutability(aws_sdk_ecr::types::ImageTagMutability::Mutable)
            .send()
            .await?;
        // The listing of the other Registry shows it, and its object looks by itself.
        let note = scene.event("web", "DriftRepaired").await?;
        ensure!(
            note == "in Registry repls-drift-far: imageTagMutability: MUTABLE -> IMMUTABLE",
            "{note}"
        );
        let live = far.live("repls-drift/web").await?;
        ensure!(
            live.image_tag_mutability()
                .is_some_and(|value| value.as_str() == "IMMUTABLE")
        );
        // What no listing shows is seen when a look is asked for.
        let arn = live.repository_arn().unwrap_or_default();
        ecr.untag_resource().resource_arn(arn).tag_keys("team").send().await?;
        let object = scene.look_now("web").await?;
        ensure!(object["status"]["drift"]["repaired"] == 2, "{}", object["status"]);
        ensure!(far.tags("repls-drift/web").await?["team"] == "a");
        ensure!(
            scene.operators_writes().await? <= 1,
            "only the creation was a write here"
        );
        Ok(())
    })
}

#[test]
fn what_exists_already_is_taken_on_request_and_never_from_another() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-exist").await?;
        let ecr = far.ecr().await?;
        let mark = aws_sdk_ecr::types::Tag::builder()
            .key("ecr-operator.dev/owner")
            .value("other/team/web")
            .build()?;
        ecr.create_repository()
            .repository_name("repls-exist/web")
            .send()
            .await?;
        let theirs = ecr.create_repository().repository_name("repls-exist/theirs").tags(mark);
        theirs.send().await?;
        let spec = |adoption: &str| with(&[&far.name], json!({ "scanOnPush": true, "adoption": adoption }));
        for (name, adoption, reason) in [("web", "Never", "Exists"), ("theirs", "Adopt", "OwnedByAnother")] {
            scene.apply(&scene.repository(name, spec(adoption))).await?;
            let object = scene.reason("repository", name, reason).await?;
            says(&object, &["replica in Registry repls-exist-far: "])?;
            ensure!(told(&object, &far.name)?["ready"] == false, "{}", object["status"]);
            // The repository itself is as it should be.
            ensure!(object["status"]["createdAt"].is_string(), "{}", object["status"]);
            let live = scene.live(&format!("repls-exist/{name}")).await?;
            ensure!(
                live.image_scanning_configuration()
                    .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
            );
        }
        // A creation may have been tried where no listing showed yet what is there.
        let calls = far.operators_calls().await?;
        for write in ["TagResource", "PutImageScanningConfiguration"] {
            ensure!(!calls.contains_key(write), "{calls:?}");
        }
        scene.settled("web", spec("Adopt")).await?;
        ensure!(far.tags("repls-exist/web").await?["ecr-operator.dev/owner"] == "bed/repls-exist/web");
        let live = far.live("repls-exist/web").await?;
        ensure!(
            live.image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
        );
        ensure!(far.tags("repls-exist/theirs").await?["ecr-operator.dev/owner"] == "other/team/web");
        Ok(())
    })
}

#[test]
fn a_registry_that_refuses_or_is_down_holds_up_its_own_replica_alone() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-down").await?;
        let down = stage.scene("repls-down-2").await?;
        let broken = Fault::server_error("ecr:*").registry(&down.account, REGION);
        let broken = stage.aws.inject(&broken).await?;
        down.apply_registry(json!({})).await?;
        let denied = Fault::error("CreateRepository", 400, "AccessDeniedException", "no right to create");
        let denied = stage.aws.inject(&denied.registry(&far.account, REGION)).await?;
        let spec = with(&[&far.name, &down.name, "repls-down-3"], json!({ "scanOnPush": true }));
        scene.apply(&scene.repository("web", spec.clone())).await?;
        let object = scene.reason("repository", "web", "Denied").await?;
        says(&object, &["replica in Registry repls-down-far: ", "no right to create"])?;
        let object = eventually(LIMIT, "all to be told of", async || {
            let object = scene.get("repository", "web").await?;
            says(
                &object,
                &["replica in Registry repls-down-3: Registry repls-down-3 does not exist"],
            )?;
            ensure!(
                told(&object, &down.name)?["reason"] == "RegistryNotReady",
                "{}",
                object["status"]
            );
            anyhow::Ok(object)
        })
        .await?;
        ensure!(told(&object, &far.name)?["reason"] == "Denied", "{}", object["status"]);
        ensure!(scene.exists("repls-down/web").await?, "the repository itself is there");
        ensure!(object["status"]["desiredHash"].is_string(), "and settled");

        // A change of the object reaches what can be reached, and no look at the rest costs a call here.
        let mut changed = spec;
        changed["scanOnPush"] = json!(false);
        scene.apply(&scene.repository("web", changed)).await?;
        eventually(LIMIT, "the change", async || {
            let live = scene.live("repls-down/web").await?;
            ensure!(
                live.image_scanning_configuration()
                    .is_some_and(|scanning| !scanning.scan_on_push())
            );
            Ok(())
        })
        .await?;

        // Each comes by itself when its Registry is ready; only the denied one is asked for.
        stage.aws.remove_fault(&broken).await?;
        down.reason("registry", &down.name, "Settled").await?;
        eventually(LIMIT, "the replica where it was down", async || {
            ensure!(down.exists("repls-down/web").await?);
            Ok(())
        })
        .await?;
        let third = stage.scene("repls-down-3").await?;
        third.registry(json!({})).await?;
        eventually(LIMIT, "the replica where there was no Registry", async || {
            ensure!(third.exists("repls-down/web").await?);
            Ok(())
        })
        .await?;
        stage.aws.remove_fault(&denied).await?;
        scene.look_now("web").await?;
        let object = scene.reason("repository", "web", "Settled").await?;
        for registry in [&far.name, &down.name, &third.name] {
            ensure!(told(&object, registry)?["ready"] == true, "{}", object["status"]);
        }
        ensure!(
            scene.events("web", "DriftRepaired").await?.is_empty(),
            "nobody changed anything"
        );
        Ok(())
    })
}

/// Two objects that each have the other's repository for a replica.
#[test]
fn two_that_claim_each_others_repository_do_not_wait_for_each_other_for_ever() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-cross").await?;
        let prefixes = json!({ "tenants": [{
            "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
            "repositoryPrefixes": ["*"],
            "may": ["Manage"],
        }]});
        scene.registry(prefixes.clone()).await?;
        far.registry(prefixes).await?;
        let named = |of: &str| with(&[of], json!({ "name": "shared/web" }));
        let one = scene.repository("web", named(&far.name));
        let two = far.repository("web", named(&scene.name));
        tokio::try_join!(scene.apply(&one), far.apply(&two))?;
        let told = eventually(LIMIT * 2, "each to say whose the other is", async || {
            let (one, two) = tokio::try_join!(scene.get("repository", "web"), far.get("repository", "web"))?;
            let both = [message(&one), message(&two)].map(str::to_owned);
            ensure!(both.iter().any(|message| message.contains("belongs to")), "{both:?}");
            for message in &both {
                ensure!(message.is_empty() || message.contains("belongs to"), "{both:?}");
            }
            ensure!(one["status"]["conditions"].is_array() && two["status"]["conditions"].is_array());
            anyhow::Ok(both)
        })
        .await?;
        for at in [&scene, &far] {
            let owner = &at.tags("shared/web").await?["ecr-operator.dev/owner"];
            ensure!(
                owner == "bed/repls-cross/web" || owner == "bed/repls-cross-far/web",
                "{owner} {told:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_key_of_another_region_and_a_namespace_without_rights_there_are_told_for_the_replica() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-key").await?;
        let us = region(&scene).await?;
        let key = format!(
            "arn:aws:kms:{REGION}:{}:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            scene.account
        );
        let spec = json!({ "encryption": { "encryptionType": "KMS", "kmsKey": key } });
        scene.apply(&scene.repository("keyed", with(&[&us], spec))).await?;
        let object = scene.reason("repository", "keyed", "Invalid").await?;
        says(
            &object,
            &["replica in Registry repls-key-us: ", "eu-west-1", "us-east-1", "mrk-"],
        )?;
        ensure!(scene.exists("repls-key/keyed").await?);

        far.registry(json!({ "tenants": null })).await?;
        scene
            .apply(&scene.repository("web", with(&[&far.name], json!({}))))
            .await?;
        let object = scene.reason("repository", "web", "NotAllowed").await?;
        says(
            &object,
            &["replica in Registry repls-key-far: Registry repls-key-far has no tenant"],
        )?;
        ensure!(far.operators_writes().await? == 0);
        Ok(())
    })
}

#[test]
fn an_observed_registry_is_compared_and_never_written() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-obs").await?;
        far.apply_registry(json!({ "mode": "Observe" })).await?;
        far.reason("registry", &far.name, "Observed").await?;
        stage.aws.reset_calls(&far.account, REGION).await?;
        scene
            .apply(&scene.repository("web", with(&[&far.name], json!({}))))
            .await?;
        let object = scene.reason("repository", "web", "Observed").await?;
        says(
            &object,
            &["replica in Registry repls-obs-far: ", "create repository repls-obs/web"],
        )?;
        ensure!(scene.exists("repls-obs/web").await?);
        ensure!(far.operators_writes().await? == 0);
        Ok(())
    })
}

#[test]
fn a_plan_shows_what_would_be_done_elsewhere() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repls-plan").await?;
        let mut manifests = Vec::new();
        // The administrator's own keys: no role is assumed, so both are in one account.
        for (name, region) in [("repls-plan", REGION), ("repls-plan-us", FAR)] {
            let mut registry = scene.registry_spec();
            registry.as_object_mut().context("a map")?.remove("assumeRole");
            registry["region"] = json!(region);
            manifests.push(object("Registry", name, None, registry));
        }
        manifests.push(scene.repository("web", with(&["repls-plan-us"], json!({ "scanOnPush": true }))));
        let (code, text) = crate::plan::plan(&scene, &manifests, &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        for line in [
            "+ create repository repls-plan/web, scanOnPush true",
            "+ in Registry repls-plan-us: create repository repls-plan/web, scanOnPush true",
        ] {
            ensure!(text.contains(line), "{text}");
        }
        Ok(())
    })
}

#[test]
fn bad_references_are_refused_and_the_example_is_taken() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repls-adm").await?;
        let many: Vec<Value> = (0..11).map(|n| json!({ "name": format!("r{n}") })).collect();
        for (refs, sentence) in [
            (
                json!([{ "name": "repls-adm" }]),
                "spec.replicaRegistryRefs: spec.registryRef has the repository already",
            ),
            (
                json!([{ "name": "a" }, { "name": "a" }]),
                "spec.replicaRegistryRefs[1]: Duplicate value",
            ),
            (
                json!(many),
                "spec.replicaRegistryRefs: Too many: 11: must have at most 10 items",
            ),
            (json!([{}]), "spec.replicaRegistryRefs[0].name: Required value"),
            (json!([{ "name": "" }]), "spec.replicaRegistryRefs[0].name"),
            (json!("far"), "spec.replicaRegistryRefs"),
        ] {
            let manifest = scene.repository("refused", json!({ "replicaRegistryRefs": refs }));
            let refusal = scene.refusal(&manifest).await?;
            ensure!(refusal.contains(sentence), "{manifest} was refused with:\n{refusal}");
        }
        scene.namespace("team-a", "yes").await?;
        let folder = bed::root().join("examples/13-replicas");
        let folder = folder.to_str().context("not UTF-8")?;
        let apply = ["apply", "--dry-run=server", "-f", folder];
        scene.cluster.kubectl(&apply).await?.checked().map(drop)
    })
}
