//! What the apiserver takes and what it refuses, with a sentence that names the field.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::{Scene, merge, object, run};

/// A manifest that nobody reconciles: its Registry does not exist.
fn repository(scene: &Scene, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "registryRef": { "name": "nobody" } });
    merge(&mut whole, spec);
    object("Repository", name, Some(&scene.name), whole)
}

async fn accepts(scene: &Scene, spec: Value) -> Result<()> {
    let manifest = repository(scene, "accepted", spec);
    scene.apply(&manifest).await?;
    let delete = ["delete", "repository.ecr-operator.dev", "accepted", "-n", &scene.name];
    scene.cluster.kubectl(&delete).await?.checked().map(drop)
}

async fn rejects(scene: &Scene, spec: Value, sentence: &str) -> Result<()> {
    let refusal = scene.refusal(&repository(scene, "refused", spec.clone())).await?;
    ensure!(
        refusal.contains(sentence),
        "{spec} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

#[test]
fn names_are_ecrs() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-names").await?;
        accepts(&scene, json!({})).await?;
        accepts(&scene, json!({ "name": "a.b/c_d/e__f--g" })).await?;
        accepts(&scene, json!({ "name": "a".repeat(256) })).await?;
        rejects(&scene, json!({ "name": "Team/web" }), "spec.name").await?;
        rejects(&scene, json!({ "name": "a".repeat(257) }), "spec.name").await?;
        rejects(&scene, json!({ "name": "a//b" }), "spec.name").await?;
        rejects(
            &scene,
            json!({ "name": "ecr-operator/registry" }),
            "belong to the operator",
        )
        .await?;
        let long = repository(&scene, &"a".repeat(129), json!({}));
        let refusal = scene.refusal(&long).await?;
        ensure!(
            refusal.contains("metadata.name has at most 128 characters"),
            "{refusal}"
        );
        Ok(())
    })
}

#[test]
fn a_kms_key_goes_with_kms() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-kms").await?;
        let key = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        accepts(
            &scene,
            json!({ "encryption": { "encryptionType": "KMS", "kmsKey": key } }),
        )
        .await?;
        accepts(&scene, json!({ "encryption": { "encryptionType": "KMS" } })).await?;
        accepts(&scene, json!({ "encryption": { "encryptionType": "AES256" } })).await?;
        let aes = json!({ "encryption": { "encryptionType": "AES256", "kmsKey": key } });
        rejects(&scene, aes, "encryption.kmsKey goes with encryptionType KMS").await?;
        rejects(
            &scene,
            json!({ "encryption": { "kmsKey": key } }),
            "spec.encryption.encryptionType",
        )
        .await?;
        rejects(
            &scene,
            json!({ "encryption": { "encryptionType": "kms" } }),
            "spec.encryption.encryptionType",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn exclusion_filters_go_with_their_mutability() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-filters").await?;
        let filters =
            |count: usize| -> Vec<Value> { (0..count).map(|n| json!({ "filter": format!("dev-{n}-*") })).collect() };
        let sentence = "imageTagMutabilityExclusionFilters go with imageTagMutability";
        for value in ["MUTABLE_WITH_EXCLUSION", "IMMUTABLE_WITH_EXCLUSION"] {
            let with = |n| json!({ "imageTagMutability": value, "imageTagMutabilityExclusionFilters": filters(n) });
            accepts(&scene, with(5)).await?;
            rejects(&scene, with(6), "must have at most 5 items").await?;
            rejects(&scene, with(0), "imageTagMutabilityExclusionFilters").await?;
            rejects(&scene, json!({ "imageTagMutability": value }), sentence).await?;
        }
        let plain = json!({ "imageTagMutability": "IMMUTABLE", "imageTagMutabilityExclusionFilters": filters(1) });
        rejects(&scene, plain, sentence).await?;
        rejects(
            &scene,
            json!({ "imageTagMutabilityExclusionFilters": filters(1) }),
            sentence,
        )
        .await?;
        rejects(
            &scene,
            json!({ "imageTagMutability": "immutable" }),
            "spec.imageTagMutability",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn tags_leave_room_for_ours_and_for_aws() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-tags").await?;
        let tags = |count: usize| -> Value {
            (0..count)
                .map(|n| (format!("key-{n}"), json!("x")))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        accepts(&scene, json!({ "tags": tags(49) })).await?;
        accepts(&scene, json!({ "tags": {} })).await?;
        rejects(&scene, json!({ "tags": tags(50) }), "spec.tags").await?;
        rejects(&scene, json!({ "tags": { "aws:x": "y" } }), "belong to AWS").await?;
        rejects(&scene, json!({ "tags": { "AWS:x": "y" } }), "belong to AWS").await?;
        rejects(
            &scene,
            json!({ "tags": { "ecr-operator.dev/owner": "x/y/z" } }),
            "belong to the operator",
        )
        .await?;
        rejects(&scene, json!({ "tags": { "k".repeat(129): "y" } }), "128 characters").await?;
        rejects(&scene, json!({ "tags": { "k": "y".repeat(257) } }), "spec.tags").await?;
        Ok(())
    })
}

#[test]
fn access_names_somebody_and_never_everybody() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-access").await?;
        let pull = |principals: Value| json!({ "policy": { "access": { "pull": { "principals": principals } } } });
        for principal in [
            "111122223333",
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:role/path/ci",
        ] {
            accepts(&scene, pull(json!([principal]))).await?;
        }
        let rest = json!({ "push": { "organizationIds": ["o-abcdefghij"] }, "lambda": { "sourceAccounts": ["111122223333"] } });
        accepts(&scene, json!({ "policy": { "access": rest } })).await?;
        accepts(&scene, json!({ "policy": { "access": {} } })).await?;
        rejects(&scene, pull(json!(["*"])), "'*' would open the repository to everyone").await?;
        rejects(
            &scene,
            pull(json!(["arn:aws:iam::*:root"])),
            "principals: each is an account id",
        )
        .await?;
        rejects(&scene, pull(json!(["somebody"])), "principals: each is an account id").await?;
        let organization = json!({ "policy": { "access": { "pull": { "organizationIds": ["*"] } } } });
        rejects(&scene, organization, "organizationIds").await?;
        let both = json!({ "access": {}, "document": { "Statement": [] } });
        rejects(&scene, json!({ "policy": both }), "exactly one of access and document").await?;
        rejects(&scene, json!({ "policy": {} }), "exactly one of access and document").await?;
        Ok(())
    })
}

/// IAM's grammar is beyond a structural schema: a `ValidatingAdmissionPolicy` looks inside.
#[test]
fn a_document_is_an_iam_policy() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-document").await?;
        let document = |document: Value| json!({ "policy": { "document": document } });
        let with = |overlay: Value| {
            let mut statement =
                json!({ "Effect": "Allow", "Principal": { "AWS": "111122223333" }, "Action": "ecr:BatchGetImage" });
            merge(&mut statement, overlay);
            document(json!({ "Version": "2012-10-17", "Statement": [statement] }))
        };
        accepts(&scene, with(json!({}))).await?;
        accepts(
            &scene,
            with(
                json!({ "Sid": "A", "Action": ["ecr:BatchGetImage"], "Principal": { "AWS": ["111122223333"] },
            "Condition": { "StringEquals": { "aws:PrincipalTag/team": "a" } } }),
            ),
        )
        .await?;
        let single =
            json!({ "Effect": "Deny", "Principal": { "AWS": "111122223333" }, "NotAction": "ecr:BatchGetImage" });
        accepts(&scene, document(json!({ "Statement": single }))).await?;

        rejects(&scene, document(json!("not a policy")), "spec.policy.document").await?;
        rejects(&scene, document(json!({})), "at least one statement").await?;
        rejects(&scene, document(json!({ "Statement": [] })), "at least one statement").await?;
        rejects(&scene, document(json!({ "statement": [] })), "no other").await?;
        rejects(&scene, document(json!({ "Statement": ["x"] })), "statement").await?;
        rejects(
            &scene,
            document(json!({ "Version": "2020-01-01", "Statement": [single] })),
            "Version",
        )
        .await?;
        rejects(&scene, with(json!({ "Effect": "allow" })), "Effect is Allow or Deny").await?;
        rejects(&scene, with(json!({ "Effect": null })), "Effect is Allow or Deny").await?;
        rejects(&scene, with(json!({ "Resource": "*" })), "takes no Resource").await?;
        rejects(&scene, with(json!({ "Action": null })), "Action").await?;
        rejects(&scene, with(json!({ "Action": 7 })), "Action").await?;
        rejects(&scene, with(json!({ "Principal": null })), "Principal").await?;
        rejects(
            &scene,
            with(json!({ "Principal": null, "NotPrincipal": { "AWS": "111122223333" } })),
            "NotPrincipal",
        )
        .await?;
        for everybody in [
            json!("*"),
            json!({ "AWS": "*" }),
            json!({ "AWS": ["111122223333", "*"] }),
            json!({ "AWS": "arn:aws:iam::*:root" }),
        ] {
            rejects(
                &scene,
                with(json!({ "Principal": everybody })),
                "open the repository to everyone",
            )
            .await?;
        }
        rejects(
            &scene,
            with(json!({ "Principal": { "AWS": 111_122_223_333_u64 } })),
            "write account ids in quotes",
        )
        .await?;
        Ok(())
    })
}

#[test]
fn what_ecr_fixes_at_creation_cannot_be_changed_added_or_removed() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-fixed").await?;
        let kms = json!({ "encryption": { "encryptionType": "KMS" } });
        scene
            .apply(&repository(&scene, "named", json!({ "name": "adm-fixed/a" })))
            .await?;
        scene.apply(&repository(&scene, "plain", json!({}))).await?;
        scene.apply(&repository(&scene, "sealed", kms.clone())).await?;
        for (name, spec, sentence) in [
            (
                "named",
                json!({ "name": "adm-fixed/b" }),
                "spec.name cannot be changed, added or removed",
            ),
            ("named", json!({}), "spec.name cannot be changed, added or removed"),
            (
                "plain",
                json!({ "name": "adm-fixed/plain" }),
                "spec.name cannot be changed, added or removed",
            ),
            ("plain", kms, "spec.encryption cannot be changed, added or removed"),
            (
                "sealed",
                json!({}),
                "spec.encryption cannot be changed, added or removed",
            ),
            (
                "sealed",
                json!({ "encryption": { "encryptionType": "AES256" } }),
                "spec.encryption cannot be changed",
            ),
            (
                "plain",
                json!({ "registryRef": { "name": "other" } }),
                "spec.registryRef cannot be changed",
            ),
        ] {
            let refusal = scene.refusal(&repository(&scene, name, spec.clone())).await?;
            ensure!(refusal.contains(sentence), "{name} {spec}: {refusal}");
        }
        Ok(())
    })
}

#[test]
fn a_registry_says_which_one_it_is_for_good() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adm-registry").await?;
        let with = |name: &str, overlay: Value| {
            // Suspended: nobody is to call AWS for it.
            let mut spec = json!({ "region": "eu-west-1", "registryId": "111122223333", "suspend": true });
            merge(&mut spec, overlay);
            object("Registry", name, None, spec)
        };
        scene.apply(&with("adm-registry", json!({}))).await?;
        let tenant = json!({ "namespaceSelector": {}, "repositoryPrefixes": ["{namespace}/", "*"], "may": ["Manage", "Promote"],
            "principals": ["111122223333"], "organizationIds": ["o-abcdefghij"] });
        scene
            .apply(&with("adm-registry", json!({ "tenants": [tenant] })))
            .await?;
        for (overlay, sentence) in [
            (json!({ "region": "eu-west-2" }), "spec.region cannot be changed"),
            (
                json!({ "registryId": "999999999999" }),
                "spec.registryId cannot be changed",
            ),
        ] {
            let refusal = scene.refusal(&with("adm-registry", overlay)).await?;
            ensure!(refusal.contains(sentence), "{refusal}");
        }
        let queue = |url: &str| json!({ "events": { "queueUrl": url } });
        for url in [
            "https://sqs.eu-west-1.amazonaws.com/111122223333/ecr-operator",
            "https://vpce-0123-abcd.sqs.us-east-1.vpce.amazonaws.com/111122223333/q",
        ] {
            scene.apply(&with("adm-registry", queue(url))).await?;
        }
        for (overlay, field) in [
            (json!({ "registryId": "1111" }), "spec.registryId"),
            (json!({ "events": {} }), "spec.events.queueUrl"),
            (
                queue("ftp://sqs.eu-west-1.amazonaws.com/111122223333/q"),
                "spec.events.queueUrl",
            ),
            (
                queue("https://sqs.eu-west-1.amazonaws.com/111122223333/q.fifo"),
                "spec.events.queueUrl",
            ),
            (queue("https://sqs.eu-west-1.amazonaws.com/q"), "spec.events.queueUrl"),
            (
                queue("https://sqs.us-east-1.amazonaws.com/111122223333/q"),
                "spec.events.queueUrl must be a queue in spec.region",
            ),
            (json!({ "region": "EU" }), "spec.region"),
            (json!({ "mode": "manage" }), "spec.mode"),
            (
                json!({ "assumeRole": { "roleArn": "arn:aws:iam::1:user/x" } }),
                "spec.assumeRole.roleArn",
            ),
            (json!({ "endpoints": { "ecr": "ftp://x" } }), "spec.endpoints.ecr"),
            (
                json!({ "tenants": [{ "repositoryPrefixes": ["a/"], "may": ["Manage"] }] }),
                "namespaceSelector",
            ),
            (
                json!({ "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": ["a/"], "may": ["promote"] }] }),
                "tenants[0].may",
            ),
            (
                json!({ "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": ["a*"], "may": ["Manage"] }] }),
                "repositoryPrefixes",
            ),
            (
                json!({ "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": [], "may": ["Manage"] }] }),
                "repositoryPrefixes",
            ),
            (
                json!({ "creationDefaults": { "tags": { "aws:x": "y" } } }),
                "belong to AWS",
            ),
        ] {
            let refusal = scene.refusal(&with("refused", overlay.clone())).await?;
            ensure!(refusal.contains(field), "{overlay}: {refusal}");
        }
        Ok(())
    })
}

#[test]
fn the_api_explains_itself() -> Result<()> {
    run(async |stage| {
        let explain = stage
            .cluster
            .kubectl(&["explain", "repository.spec", "--recursive"])
            .await?
            .checked()?;
        for field in [
            "registryRef",
            "imageTagMutability",
            "deletionPolicy",
            "policy",
            "enum: MUTABLE",
        ] {
            ensure!(explain.contains(field), "{field} is not in:\n{explain}");
        }
        stage
            .cluster
            .kubectl(&["get", "ecr", "--all-namespaces"])
            .await?
            .checked()?;
        stage
            .cluster
            .kubectl(&["get", "ecrrepo,ecrreg", "--all-namespaces"])
            .await?
            .checked()?;
        let field = stage
            .cluster
            .kubectl(&["explain", "repository.spec.adoption"])
            .await?
            .checked()?;
        ensure!(field.contains("Default: Never"), "{field}");
        Ok(())
    })
}
