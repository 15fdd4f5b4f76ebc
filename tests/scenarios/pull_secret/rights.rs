//! What a Secret gives: pulling from the prefixes of its namespace, by the role that the Registry names. Promise 8.

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::json;

use super::hall::{self, ROLE};
use crate::{
    plan::plan,
    support::{REGION, condition, message, object, run},
};

#[test]
fn a_secret_pulls_from_the_prefixes_of_its_namespace_and_does_nothing_else() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pulls").await?;
        scene.settled("web", json!({})).await?;
        let aws = &stage.aws;
        let digest = aws
            .push_image(&scene.account, REGION, "pulls/web", "v1", b"content")
            .await?;
        for other in ["pulls-too/web", "pullsx", "other/web"] {
            scene
                .ecr()
                .await?
                .create_repository()
                .repository_name(other)
                .send()
                .await?;
            aws.push_image(&scene.account, REGION, other, "v1", b"secret").await?;
        }
        let object = hall::settled(&scene, "pull", json!({})).await?;
        let entry = hall::entry(&scene, "pull").await?;
        ensure!(
            entry.host == aws.registry_host(&scene.account, REGION).await?,
            "{entry:?}"
        );

        let image = entry.pull("pulls/web", "v1").await?;
        ensure!(image.digest == digest && image.content == b"content", "{image:?}");
        for other in ["pulls-too/web", "pullsx", "other/web"] {
            let refused = entry.pull(other, "v1").await;
            let refused = refused.err().with_context(|| format!("{other} was pulled"))?;
            ensure!(
                format!("{refused:#}").contains("no session policy allows"),
                "{refused:#}"
            );
        }
        let pushed = entry.push("pulls/web", "v2", b"other").await;
        ensure!(pushed.is_err(), "a token for pulling pushes");
        for (method, path) in [
            (Method::DELETE, format!("pulls/web/manifests/{digest}")),
            (Method::POST, "pulls/web/blobs/uploads/".to_owned()),
            (Method::GET, "pulls/web/tags/list".to_owned()),
        ] {
            let status = entry.status(method.clone(), &path).await?;
            ensure!(status == StatusCode::FORBIDDEN, "{method} {path}: {status}");
        }

        // CloudTrail tells whose token it is.
        let calls = aws.calls(&scene.account, REGION).await?.calls;
        let mut asked = calls.iter().filter(|call| call.operation == "GetAuthorizationToken");
        let asked = asked.find(|call| call.principal.as_deref().is_some_and(|who| who.contains(ROLE)));
        let who = asked.and_then(|call| call.principal.clone()).context("nobody asked")?;
        ensure!(
            who == format!("arn:aws:sts::{}:assumed-role/{ROLE}/pulls@pull", scene.account),
            "{who}"
        );
        // Nothing that is written down holds the token.
        let secret = hall::secret(&scene, "pull").await?;
        let events = scene.events("pull", "Created").await?.join("\n");
        for text in [
            object.to_string(),
            secret["metadata"].to_string(),
            events,
            stage.operator.process().log(),
        ] {
            ensure!(!entry.is_in(&text)?, "the token stands in {text}");
        }
        let metrics = stage.operator.metrics().await?;
        ensure!(
            metrics.contains(r#"ecr_operator_pull_secret_expires_in_seconds{namespace="pulls",name="pull"}"#),
            "{metrics}"
        );
        Ok(())
    })
}

#[test]
fn a_registry_that_is_only_observed_serves_pulls() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("pull-obs").await?;
        hall::open(&scene).await?;
        let mut overlay = hall::overlay(&scene);
        overlay["mode"] = "Observe".into();
        scene.apply_registry(overlay).await?;
        scene.reason("registry", "pull-obs", "Observed").await?;
        hall::settled(&scene, "pull", json!({})).await?;
        hall::entry(&scene, "pull").await.map(drop)
    })
}

#[test]
fn without_a_role_or_a_tenant_there_is_no_secret_and_no_call() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-none").await?;
        let mut registry = hall::overlay(&scene);
        registry["pull"] = serde_json::Value::Null;
        scene.registry(registry).await?;
        scene.apply(&hall::pull_secret(&scene, "pull", json!({}))).await?;
        let object = scene.reason("pullsecret", "pull", "NotAllowed").await?;
        ensure!(message(&object).contains("has no spec.pull"), "{}", message(&object));

        let mut registry = hall::overlay(&scene);
        registry["tenants"][0]["may"] = json!(["Manage", "Promote"]);
        scene.registry(registry).await?;
        let told = bed::eventually(crate::support::LIMIT, "the reason to be told", async || {
            let object = scene.get("pullsecret", "pull").await?;
            let told = message(&object).contains("no tenant that lets namespace pull-none pull images");
            ensure!(told, "{}", message(&object));
            Ok(())
        });
        told.await?;
        ensure!(hall::core(&scene, "secret", "pull").await?.is_none());
        ensure!(hall::assumed(&scene).await? == 0);
        scene.registry(hall::overlay(&scene)).await?;
        scene.reason("pullsecret", "pull", "Settled").await.map(drop)
    })
}

#[test]
fn a_namespace_that_may_not_pull_any_more_loses_its_secret() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-lost").await?;
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "builder", "namespace": "pull-lost" } });
        scene.apply(&account).await?;
        hall::settled(&scene, "pull", json!({ "serviceAccounts": ["builder"] })).await?;
        ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["pull"]);
        scene.namespace("pull-lost", "no").await?;
        let object = scene.reason("pullsecret", "pull", "NotAllowed").await?;
        ensure!(hall::core(&scene, "secret", "pull").await?.is_none(), "{object}");
        ensure!(hall::pull_secrets_of(&scene, "builder").await?.is_empty());
        ensure!(object["status"].get("secretName").is_none(), "{object}");
        let told = scene.event("pull", "Deleted").await?;
        ensure!(told.contains("delete Secret pull"), "{told}");
        scene.namespace("pull-lost", "yes").await?;
        scene.reason("pullsecret", "pull", "Settled").await?;
        hall::entry(&scene, "pull").await?;
        ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["pull"]);
        Ok(())
    })
}

#[test]
fn narrower_prefixes_narrow_the_token_at_once() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "narrower").await?;
        let mut wide = hall::overlay(&scene);
        wide["tenants"][0]["repositoryPrefixes"] = json!(["*"]);
        scene.registry(wide).await?;
        scene
            .ecr()
            .await?
            .create_repository()
            .repository_name("other/web")
            .send()
            .await?;
        let aws = &stage.aws;
        aws.push_image(&scene.account, REGION, "other/web", "v1", b"content")
            .await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let entry = hall::entry(&scene, "pull").await?;
        entry.pull("other/web", "v1").await?;
        scene.registry(hall::overlay(&scene)).await?;
        let narrowed = bed::eventually(crate::support::LIMIT, "another token", async || {
            let now = hall::entry(&scene, "pull").await?;
            ensure!(now != entry, "the same");
            Ok(now)
        });
        let refused = narrowed.await?.pull("other/web", "v1").await;
        ensure!(refused.is_err(), "the new token is as wide as the old one");
        Ok(())
    })
}

#[test]
fn a_role_that_does_not_trust_the_operator_is_told_with_what_to_do() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-denied").await?;
        hall::trusted(&scene, false).await?;
        scene.apply(&hall::pull_secret(&scene, "pull", json!({}))).await?;
        let object = scene.reason("pullsecret", "pull", "Denied").await?;
        ensure!(
            message(&object).contains("AssumeRole was refused with AccessDenied"),
            "{}",
            message(&object)
        );
        ensure!(condition(&object, "Stalled").is_some_and(|stalled| stalled["status"] == "True"));
        ensure!(hall::core(&scene, "secret", "pull").await?.is_none());
        hall::trusted(&scene, true).await?;
        hall::look_now(&scene, "pull").await?;
        scene.reason("pullsecret", "pull", "Settled").await.map(drop)
    })
}

#[test]
fn of_several_registries_one_that_fails_does_not_hinder_the_others() -> Result<()> {
    run(async |stage| {
        let (one, two) = tokio::try_join!(hall::scene(stage, "pull-one"), stage.scene("pull-two"))?;
        hall::open(&two).await?;
        let mut overlay = hall::overlay(&two);
        overlay["tenants"][0]["repositoryPrefixes"] = json!(["shared/"]);
        two.registry(overlay).await?;
        hall::trusted(&two, false).await?;
        let refs = json!({ "registryRefs": [{ "name": "pull-two" }, { "name": "pull-one" }] });
        one.apply(&hall::pull_secret(&one, "pull", refs)).await?;
        let object = one.reason("pullsecret", "pull", "Denied").await?;
        let entry = hall::entry(&one, "pull").await?;
        ensure!(
            entry.host == stage.aws.registry_host(&one.account, REGION).await?,
            "{entry:?}"
        );
        let registries = &object["status"]["registries"];
        ensure!(
            registries[0]["message"]
                .as_str()
                .is_some_and(|told| told.contains("AssumeRole")),
            "{registries}"
        );
        ensure!(
            registries[1]["host"] == entry.host && registries[1].get("message").is_none(),
            "{registries}"
        );
        hall::trusted(&two, true).await?;
        hall::look_now(&one, "pull").await?;
        one.reason("pullsecret", "pull", "Settled").await?;
        let entries = hall::entries(&hall::secret(&one, "pull").await?)?;
        ensure!(entries.len() == 2 && entries.contains(&entry), "{entries:?}");
        Ok(())
    })
}

#[test]
fn a_plan_tells_what_would_be_written_and_writes_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("pull-plan").await?;
        let mut registry = scene.registry_spec();
        crate::support::merge(&mut registry, hall::overlay(&scene));
        crate::support::merge(&mut registry, json!({ "mode": "Observe", "assumeRole": null }));
        let registry = object("Registry", "pull-plan", None, registry);
        let wanted = hall::pull_secret(&scene, "pull", json!({ "secretName": "ecr" }));
        let (code, text) = plan(&scene, &[registry, wanted], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        ensure!(text.contains("create Secret ecr with tokens of pull-plan"), "{text}");
        ensure!(hall::core(&scene, "secret", "ecr").await?.is_none());
        ensure!(hall::assumed(&scene).await? == 0);
        Ok(())
    })
}
