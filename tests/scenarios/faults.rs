//! What only AWS can refuse becomes a condition with what to do, and is not hammered. Promise 7.

use std::time::Duration;

use anyhow::{Result, ensure};
use bed::{Effect, Fault, Policy, eventually, throughout};
use serde_json::json;

use crate::support::{LIMIT, REGION, condition, message, run};

#[test]
fn a_principal_that_does_not_exist_is_reported_with_awss_words_and_not_hammered() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("unknown").await?;
        scene.registry(json!({ "tenants": [{
            "namespaceSelector": {}, "repositoryPrefixes": ["{namespace}/"], "may": ["Manage"], "principals": ["999900001111"],
        }]}))
        .await?;
        stage.aws.make_account_unknown("999900001111").await?;
        let spec = json!({ "policy": { "access": { "pull": { "principals": ["999900001111"] } } } });
        scene.apply(&scene.repository("web", spec)).await?;
        let object = scene.reason("repository", "web", "Invalid").await?;
        ensure!(
            message(&object).contains("Invalid repository policy provided"),
            "{}",
            message(&object)
        );
        ensure!(condition(&object, "Stalled").is_some_and(|stalled| stalled["status"] == "True"));
        let version = object["metadata"]["resourceVersion"].clone();
        throughout(Duration::from_secs(4), "quiet", async || {
            let now = scene.get("repository", "web").await?;
            ensure!(now["metadata"]["resourceVersion"] == version, "{}", now["status"]);
            Ok(())
        })
        .await?;
        let calls = scene.operators_calls().await?;
        ensure!(calls["SetRepositoryPolicy"] == 1, "{calls:?}");
        Ok(())
    })
}

#[test]
fn denied_calls_are_told_once_and_are_few() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("denied").await?;
        scene.registry(json!({})).await?;
        let fault = Fault::error(
            "CreateRepository",
            400,
            "AccessDeniedException",
            "User is not authorized to perform: ecr:CreateRepository",
        );
        let id = stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "Denied").await?;
        ensure!(
            message(&object).contains("not authorized to perform: ecr:CreateRepository"),
            "{}",
            message(&object)
        );
        ensure!(
            message(&object).contains("Grant the operator's role the right"),
            "{}",
            message(&object)
        );
        throughout(Duration::from_secs(4), "patience", async || {
            let calls = scene.operators_calls().await?;
            ensure!(calls["CreateRepository"] <= 2, "{calls:?}");
            Ok(())
        })
        .await?;
        stage.aws.remove_fault(&id).await?;
        scene.look_now("web").await?;
        scene.reason("repository", "web", "Settled").await?;
        Ok(())
    })
}

#[test]
fn a_quota_is_not_taken_for_throttling() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("quota").await?;
        scene.registry(json!({})).await?;
        let fault = Fault::error(
            "CreateRepository",
            400,
            "LimitExceededException",
            "The limit of repositories is reached",
        );
        stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "Quota").await?;
        ensure!(message(&object).contains("Service Quotas"), "{}", message(&object));
        let calls = scene.operators_calls().await?;
        ensure!(calls["CreateRepository"] == 1, "the SDK must not retry it: {calls:?}");
        Ok(())
    })
}

#[test]
fn throttling_and_server_errors_heal_by_themselves() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("heals").await?;
        scene.registry(json!({})).await?;
        let at = |fault: Fault| fault.registry(&scene.account, REGION).times(3);
        stage.aws.inject(&at(Fault::throttling("CreateRepository"))).await?;
        stage
            .aws
            .inject(&at(Fault::server_error("SetRepositoryPolicy")))
            .await?;
        let spec = json!({ "policy": { "access": { "pull": { "principals": [scene.account] } } } });
        scene.settled("web", spec).await?;
        ensure!(scene.tags("heals/web").await?["ecr-operator.dev/owner"] == "bed/heals/web");
        Ok(())
    })
}

#[test]
fn a_failure_that_lasts_is_told_once_however_often_it_is_met() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lasts").await?;
        scene.registry(json!({})).await?;
        let fault = Fault::server_error("CreateRepository").registry(&scene.account, REGION);
        let id = stage.aws.inject(&fault).await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        let told = scene.reason("repository", "web", "Unavailable").await?;
        let met = stage.aws.fault(&id).await?.injected;
        // The SDK makes three attempts for each of ours.
        eventually(LIMIT, "two more attempts of the operator", async || {
            let now = stage.aws.fault(&id).await?.injected;
            ensure!(now >= met + 6, "{now} after {met}");
            Ok(())
        })
        .await?;
        let now = scene.get("repository", "web").await?;
        ensure!(
            now["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"],
            "first {}, then {}",
            message(&told),
            message(&now)
        );
        Ok(())
    })
}

#[test]
fn a_create_whose_answer_was_lost_is_recognised_as_ours() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lost").await?;
        scene.registry(json!({})).await?;
        let fault = Fault::server_error("CreateRepository")
            .after()
            .registry(&scene.account, REGION)
            .times(3);
        stage.aws.inject(&fault).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        ensure!(
            scene
                .live("lost/web")
                .await?
                .image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
        );
        Ok(())
    })
}

#[test]
fn a_wrong_account_is_said_by_the_registry_and_nothing_is_written() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("mismatch").await?;
        scene.apply_registry(json!({ "registryId": "123456789012" })).await?;
        let registry = scene.reason("registry", "mismatch", "AccountMismatch").await?;
        ensure!(message(&registry).contains(&scene.account), "{}", message(&registry));
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "RegistryNotReady").await?;
        ensure!(message(&object).contains("Registry mismatch"), "{}", message(&object));
        ensure!(scene.operators_writes().await? == 0);
        Ok(())
    })
}

#[test]
fn an_unreachable_endpoint_and_missing_rights_are_said_by_the_registry_and_waited_out() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("reach").await?;
        scene
            .apply_registry(json!({ "endpoints": { "ecr": "http://127.0.0.1:9" } }))
            .await?;
        let registry = scene.reason("registry", "reach", "Unavailable").await?;
        ensure!(
            message(&registry).contains("DescribeRepositories"),
            "{}",
            message(&registry)
        );
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "RegistryNotReady").await?;
        ensure!(
            message(&object).contains("Registry reach is not ready"),
            "{}",
            message(&object)
        );
        scene.role(Policy::None).await?;
        scene.apply_registry(json!({})).await?;
        let registry = scene.reason("registry", "reach", "Denied").await?;
        ensure!(
            message(&registry).contains("ecr:DescribeRepositories"),
            "{}",
            message(&registry)
        );
        Ok(())
    })
}

#[test]
fn expired_credentials_are_said_by_the_registry_and_its_repositories_wait() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("expired").await?;
        scene.registry(json!({})).await?;
        let expired = "The security token included in the request is expired";
        let fault = Fault::error("DescribeRepositories", 400, "ExpiredTokenException", expired);
        let id = stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
        let registry = scene.reason("registry", "expired", "Denied").await?;
        ensure!(message(&registry).contains(expired), "{}", message(&registry));
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "RegistryNotReady").await?;
        ensure!(
            message(&object).contains("Registry expired is not ready"),
            "{}",
            message(&object)
        );
        stage.aws.remove_fault(&id).await?;
        // An edit is looked at once; the Registry would try by itself within minutes.
        scene
            .registry(json!({ "creationDefaults": { "scanOnPush": true } }))
            .await?;
        scene.reason("repository", "web", "Settled").await?;
        Ok(())
    })
}

#[test]
fn a_role_that_asks_for_another_external_id_is_not_assumed() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("external").await?;
        let role = format!("arn:aws:iam::{}:role/ecr-operator", scene.account);
        scene
            .apply_registry(json!({ "assumeRole": { "roleArn": role, "externalId": "wrong" } }))
            .await?;
        let registry = scene.reason("registry", "external", "Denied").await?;
        ensure!(message(&registry).contains("sts:AssumeRole"), "{}", message(&registry));
        // The words depend on the cause alone: the next attempts write nothing.
        let look = ["annotate", "registry.ecr-operator.dev", "external", "--overwrite"];
        for token in ["ecr-operator.dev/reconcile=a", "ecr-operator.dev/reconcile=b"] {
            scene
                .cluster
                .kubectl(&[&look[..], &[token]].concat())
                .await?
                .checked()?;
            let now = eventually(LIMIT, "another attempt", async || {
                let now = scene.get("registry", "external").await?;
                ensure!(
                    token.ends_with(now["status"]["lastHandledReconcile"].as_str().unwrap_or("-")),
                    "{}",
                    now["status"]
                );
                Ok(now)
            })
            .await?;
            ensure!(message(&now) == message(&registry), "{}", message(&now));
        }
        scene.registry(json!({})).await
    })
}

#[test]
fn the_figures_and_probes_are_served() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("figures").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        let text = stage.operator.metrics().await?;
        for figure in [
            r#"ecr_operator_reconciles_total{kind="Repository",result="Settled"}"#,
            r"ecr_operator_reconcile_duration_seconds_bucket{",
            r#"ecr_operator_objects{kind="Repository",ready="True"}"#,
            r#"ecr_operator_aws_calls_total{registry="figures",operation="CreateRepository",result="ok"}"#,
            r"ecr_operator_aws_call_duration_seconds_bucket{",
            r#"ecr_operator_reconciles_in_flight{kind="Repository"}"#,
            r#"ecr_operator_oldest_trigger_age_seconds{kind="Repository"}"#,
            r#"ecr_operator_inventory_age_seconds{registry="figures"}"#,
        ] {
            ensure!(text.contains(figure), "{figure} is not in:\n{text}");
        }
        ensure!(stage.operator.get("/livez").await?.0 == 200);
        ensure!(stage.operator.get("/readyz").await?.0 == 200);
        Ok(())
    })
}

#[test]
fn a_registry_that_does_not_answer_keeps_none_waiting_but_its_own_objects() -> Result<()> {
    run(async |stage| {
        let (down, up) = (stage.scene("faults-down").await?, stage.scene("faults-up").await?);
        down.registry(json!({})).await?;
        up.registry(json!({})).await?;
        let hold = Fault::new("CreateRepository", Effect::Hold).registry(&down.account, REGION);
        let hold = stage.aws.inject(&hold).await?;
        // More than are worked on at once.
        let names: Vec<String> = (0..20).map(|nth| format!("web-{nth}")).collect();
        for name in &names {
            down.apply(&down.repository(name, json!({}))).await?;
        }
        eventually(LIMIT, "as many calls to hang as are made at once", async || {
            let state = stage.aws.fault(&hold).await?;
            ensure!(state.held >= 16, "{state:?}");
            Ok(())
        })
        .await?;
        for nth in 0..3 {
            up.settled(&format!("web-{nth}"), json!({})).await?;
        }
        let state = stage.aws.fault(&hold).await?;
        ensure!(state.held >= 16, "they do not hang any more: {state:?}");
        stage.aws.remove_fault(&hold).await?;
        for name in &names {
            down.reason("repository", name, "Settled").await?;
        }
        Ok(())
    })
}
