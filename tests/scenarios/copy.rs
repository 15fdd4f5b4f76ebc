//! `ecr-operator copy`: an image arrives elsewhere with everything that belongs to it, and as what it was.

mod shelf;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bed::{Bed, Effect, Output, Policy, Principal, Process};
use serde_json::{Value, json};

use self::shelf::{IMAGE, INDEX, Shelf};
use crate::support::{LIMIT, REGION, Stage, binary, run};

/// Another Region than [`REGION`].
const ELSEWHERE: &str = "us-east-1";

/// The command, as the principal would run it.
fn command(stage: &Stage, principal: &Principal, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("copy").args(arguments).envs(principal.environment());
    command
        .env("AWS_ENDPOINT_URL", stage.aws.endpoint())
        .env("AWS_REGION", REGION);
    command
}

fn bed(stage: &'static Stage) -> &'static Bed {
    stage.cluster.bed()
}

async fn attempt(stage: &'static Stage, principal: &Principal, arguments: &[&str]) -> Result<Output> {
    bed(stage).run(&command(stage, principal, arguments), "").await
}

/// Copies, and gives what the command says it has done.
async fn copied(stage: &'static Stage, principal: &Principal, arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["--output", "json"]].concat();
    let text = attempt(stage, principal, &arguments).await?.checked()?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Copies in vain, and gives the error.
async fn refused(stage: &'static Stage, principal: &Principal, arguments: &[&str]) -> Result<String> {
    let output = attempt(stage, principal, arguments).await?;
    ensure!(output.status.code() == Some(1), "{} {}", output.status, output.stdout);
    Ok(output.stderr)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

#[test]
fn within_a_registry_layers_are_mounted_where_that_is_on_and_sent_where_it_is_not() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let digest = from.push("v1", &noise(1, 100_000)).await?;
        let admin = from.admin().await?;

        let sent = from.beside("sent").await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &sent.uri("")]).await?;
        ensure!(report["sent"] == 2 && report["mounted"] == 0, "{report}");
        ensure!(
            report["digest"] == *digest && report["tags"] == json!(["v1"]),
            "{report}"
        );
        ensure!(
            sent.whole("v1").await? == from.whole("v1").await?,
            "another image arrived"
        );

        from.ecr()
            .await?
            .put_account_setting()
            .name("BLOB_MOUNTING")
            .value("ENABLED")
            .send()
            .await?;
        let mounted = from.beside("mounted").await?;
        stage.aws.reset_calls(&from.account, REGION).await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &mounted.uri(":other")]).await?;
        ensure!(
            report["sent"] == 0 && report["mounted"] == 2 && report["bytes"] == 0,
            "{report}"
        );
        ensure!(from.requests("oci:DownloadBlob").await? == 0, "layers travelled");
        ensure!(mounted.tag("other").await? == Some(digest), "the tag is elsewhere");
        ensure!(
            mounted.whole("other").await? == from.whole("v1").await?,
            "another image arrived"
        );
        Ok(())
    })
}

#[test]
fn with_the_rights_of_the_guide_an_image_goes_to_another_account_and_region() -> Result<()> {
    run(async |stage| {
        let (from, to) = (Shelf::new(stage, REGION).await?, Shelf::new(stage, ELSEWHERE).await?);
        let digest = from.push("v1", &noise(2, 300_000)).await?;
        let rights = |shelf: &Shelf, actions: &[&str]| {
            let actions: Vec<String> = actions.iter().map(|action| format!("ecr:{action}")).collect();
            let resource = format!(
                "arn:aws:ecr:{}:{}:repository/{}",
                shelf.region, shelf.account, shelf.repository
            );
            Policy::Document(json!({ "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
                { "Effect": "Allow", "Action": actions, "Resource": resource },
                { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*" },
            ]}))
        };
        let reading = rights(&from, &["BatchGetImage", "GetDownloadUrlForLayer"]);
        let reader = stage.aws.user(&from.account, "copier", reading).await?;
        let writing = rights(
            &to,
            &[
                "BatchCheckLayerAvailability",
                "BatchGetImage",
                "CompleteLayerUpload",
                "DescribeImages",
                "InitiateLayerUpload",
                "PutImage",
                "UploadLayerPart",
            ],
        );
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": reader.arn }, "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": "copy" } },
        }]});
        let writer = stage.aws.role(&to.account, "copier", writing, trust).await?;
        let role = format!("arn:aws:iam::{}:role/copier", to.account);
        ensure!(writer.arn.contains("copier"), "{}", writer.arn);
        let (source, destination) = (from.uri(":v1"), to.uri(""));
        let with_role = [
            &*source,
            &*destination,
            "--destination-role-arn",
            &role,
            "--destination-external-id",
            "copy",
        ];
        let report = copied(stage, &reader, &with_role).await?;
        ensure!(report["digest"] == *digest && report["sent"] == 2, "{report}");
        ensure!(
            to.whole("v1").await? == from.whole("v1").await?,
            "another image arrived"
        );

        let error = refused(stage, &reader, &[&source, &destination]).await?;
        ensure!(error.contains("use credentials or a role of that account"), "{error}");
        let error = refused(stage, &reader, &with_role[..4]).await?;
        ensure!(
            error.contains("AssumeRole") || error.contains("AccessDenied"),
            "{error}"
        );
        Ok(())
    })
}

#[test]
fn an_index_arrives_with_its_attestations_signatures_and_referrers() -> Result<()> {
    run(async |stage| {
        let (from, to) = (Shelf::new(stage, REGION).await?, Shelf::new(stage, REGION).await?);
        let amd = from.push_image(None, &[b"amd64", b"shared", b""], &json!({})).await?;
        let arm = from.push_image(None, &[b"arm64", b"shared"], &json!({})).await?;
        let attestation = from.push_image(None, &[b"provenance"], &json!({})).await?;
        let mut listed = attestation.json();
        listed["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [amd.json(), arm.json(), listed] });
        let index = from.push_manifest(Some("v1"), &index).await?;
        let companion = |digest: &str, suffix: &str| format!("{}{suffix}", digest.replace(':', "-"));
        let signature = companion(&index.digest, ".sig");
        let of_amd = companion(&amd.digest, ".sbom");
        from.push_image(Some(&signature), &[b"signature"], &json!({})).await?;
        from.push_image(Some(&of_amd), &[b"sbom of amd64"], &json!({})).await?;
        let about_index = json!({ "subject": index.json(), "artifactType": "application/vnd.example.scan" });
        let scan = from.push_image(None, &[b"scan"], &about_index).await?;
        let about_scan = json!({ "subject": scan.json(), "artifactType": "application/vnd.example.signature" });
        let of_scan = from.push_image(None, &[b"signature of the scan"], &about_scan).await?;

        let (admin, role) = (from.admin().await?, to.open_to(&from.account).await?);
        let with_role = |destination: String| {
            vec![
                from.uri(":v1"),
                destination,
                "--destination-role-arn".to_owned(),
                role.clone(),
            ]
        };
        let arguments = with_role(to.uri(""));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(report["manifests"] == 8 && report["referrers"] == 4, "{report}");
        ensure!(
            report["tags"] == json!([of_amd, signature, "v1"]),
            "the tag is set last: {report}"
        );
        for reference in ["v1", &signature, &of_amd, &scan.digest, &of_scan.digest] {
            ensure!(
                to.whole(reference).await? == from.whole(reference).await?,
                "{reference} is another"
            );
        }

        // Once more: nothing is sent and nothing is put.
        stage.aws.reset_calls(&to.account, REGION).await?;
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(
            report["manifestsSkipped"] == 8 && report["tags"] == json!([]),
            "{report}"
        );
        ensure!(report["skipped"] == report["blobs"], "{report}");
        for operation in ["oci:PutManifest", "oci:StartUpload", "oci:PatchUpload"] {
            ensure!(to.requests(operation).await? == 0, "{operation}");
        }

        // A signature is added at the source: the tag is moved to it, since it includes the first.
        from.push_image(Some(&signature), &[b"signature", b"another"], &json!({}))
            .await?;
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(report["tags"] == json!([signature]), "{report}");
        ensure!(
            to.tag(&signature).await? == from.tag(&signature).await?,
            "the signature was not added"
        );
        // One that includes it not stays beside it.
        from.push_image(Some(&signature), &[b"a third alone"], &json!({}))
            .await?;
        let before = to.tag(&signature).await?;
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(to.tag(&signature).await? == before, "a signature was lost");
        let warning = report["warnings"][0].as_str().unwrap_or_default();
        ensure!(warning.contains("it was left there"), "{report}");

        let bare = to.beside("bare").await?;
        let mut arguments = with_role(bare.uri(""));
        arguments.push("--no-referrers".to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(
            report["manifests"] == 4 && bare.tag(&signature).await?.is_none(),
            "{report}"
        );
        ensure!(
            bare.whole("v1").await? == from.whole("v1").await?,
            "another image arrived"
        );
        Ok(())
    })
}

#[test]
fn a_tag_of_others_is_never_moved() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let (digest, theirs) = (from.push("v1", b"ours").await?, from.beside("theirs").await?);
        let taken = theirs.push("v1", b"theirs").await?;
        let admin = from.admin().await?;
        let (source, destination) = (from.uri(":v1"), theirs.uri(""));
        let unrelated = format!("sha256:{}", "0".repeat(64));
        let error = refused(stage, &admin, &[&source, &destination]).await?;
        ensure!(
            error.contains("the tag v1") && error.contains(&taken) && error.contains("is not moved"),
            "{error}"
        );
        ensure!(theirs.images().await? == 1, "the image travelled in vain");
        let error = refused(stage, &admin, &[&source, &destination, "--move-tag-from", &unrelated]).await?;
        ensure!(error.contains("is not moved"), "{error}");
        ensure!(theirs.tag("v1").await?.as_ref() == Some(&taken), "moved");

        let report = copied(stage, &admin, &[&source, &destination, "--move-tag-from", &taken]).await?;
        ensure!(
            report["tags"] == json!(["v1"]) && theirs.tag("v1").await?.as_ref() == Some(&digest),
            "{report}"
        );
        // An archived image cannot be pulled, and keeps its tags.
        let archived = from.beside("archived").await?;
        let stored = archived.push("v1", b"archived").await?;
        archived
            .ecr()
            .await?
            .update_image_storage_class()
            .repository_name(&archived.repository)
            .image_id(
                aws_sdk_ecr::types::ImageIdentifier::builder()
                    .image_digest(&stored)
                    .build(),
            )
            .target_storage_class(aws_sdk_ecr::types::TargetStorageClass::Archive)
            .send()
            .await?;
        let error = refused(stage, &admin, &[&source, &archived.uri("")]).await?;
        ensure!(error.contains(&stored) && error.contains("is not moved"), "{error}");
        // By its digest: no tag at all.
        let untagged = from.beside("untagged").await?;
        let report = copied(stage, &admin, &[&from.uri(&format!("@{digest}")), &untagged.uri("")]).await?;
        ensure!(report["tags"] == json!([]) && untagged.images().await? == 1, "{report}");
        ensure!(
            untagged.whole(&digest).await? == from.whole("v1").await?,
            "another image arrived"
        );
        Ok(())
    })
}

#[test]
fn a_copy_that_was_killed_goes_on_and_sends_nothing_twice() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let layers: Vec<Vec<u8>> = (0..6).map(|seed| noise(seed, 50_000)).collect();
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        from.push_image(Some("v1"), &layers, &json!({})).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        let arguments = [&*from.uri(":v1"), &*to.uri(""), "--concurrency", "1"];
        let held = from
            .fault("oci:PatchUpload", Effect::Hold, |fault| fault.nth(4))
            .await?;
        let process = bed(stage).spawn("copy-killed", &command(stage, &admin, &arguments))?;
        stage.aws.held(&held, LIMIT).await?;
        process.kill();
        stage.aws.remove_fault(&held).await?;
        ensure!(to.images().await? == 0, "half an image is there");

        stage.aws.reset_calls(&from.account, REGION).await?;
        let report = copied(stage, &admin, &arguments).await?;
        ensure!(report["skipped"] == 3 && report["sent"] == 4, "{report}");
        ensure!(from.requests("oci:PatchUpload").await? == 4, "sent twice");
        ensure!(
            to.whole("v1").await? == from.whole("v1").await?,
            "another image arrived"
        );
        Ok(())
    })
}

#[test]
fn cut_connections_and_a_registry_at_fault_are_overcome() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        from.push("v1", &noise(7, 1_000_000)).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        // Each request gives 300,000 bytes at most: only who goes on from there comes to the end.
        let cut = from
            .fault("oci:DownloadBlob", Effect::CutAfter(300_000), |fault| fault)
            .await?;
        let busy = |status, code: &str| Effect::Error {
            status,
            code: code.to_owned(),
            message: "later".to_owned(),
        };
        from.fault("oci:StartUpload", busy(429, "TOOMANYREQUESTS"), |fault| fault.times(1))
            .await?;
        from.fault("oci:PutManifest", busy(503, "UNAVAILABLE"), |fault| fault.times(2))
            .await?;
        from.fault("oci:HeadBlob", Effect::Disconnect, |fault| fault.times(1))
            .await?;
        // The fourth sets the tag, after three for the digest: it is set, and nobody is told.
        let lost = from
            .fault("oci:PutManifest", Effect::Disconnect, |fault| fault.after().nth(4))
            .await?;
        stage.aws.reset_calls(&from.account, REGION).await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &to.uri("")]).await?;
        ensure!(report["sent"] == 2 && report["tags"] == json!(["v1"]), "{report}");
        ensure!(stage.aws.fault(&lost).await?.injected == 1, "no answer was lost");
        ensure!(
            from.requests("oci:PatchUpload").await? == 2,
            "the source broke off, not the destination"
        );
        let downloads = from.requests("oci:DownloadBlob").await?;
        ensure!(
            downloads == 5,
            "four for the layer and one for the config, not {downloads}"
        );
        stage.aws.remove_fault(&cut).await?;

        let again = from.beside("again").await?;
        from.fault("oci:PatchUpload", Effect::Disconnect, |fault| fault.times(2))
            .await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &again.uri("")]).await?;
        ensure!(report["sent"] == 2, "{report}");
        for shelf in [&to, &again] {
            ensure!(
                shelf.whole("v1").await? == from.whole("v1").await?,
                "another image arrived"
            );
        }
        Ok(())
    })
}

#[test]
fn what_is_damaged_at_the_source_is_refused() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let digest = from.push("v1", &noise(8, 200_000)).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        let (source, destination) = (from.uri(":v1"), to.uri(""));
        let fault = from.fault("oci:DownloadBlob", Effect::Corrupt, |fault| fault).await?;
        stage.aws.reset_calls(&from.account, REGION).await?;
        let error = refused(stage, &admin, &[&source, &destination]).await?;
        ensure!(error.contains("is damaged") && error.contains("sha256:"), "{error}");
        ensure!(
            from.requests("oci:FinishUpload").await? == 0,
            "a damaged blob was stored"
        );
        stage.aws.remove_fault(&fault).await?;

        let fault = from.fault("oci:GetManifest", Effect::Corrupt, |fault| fault).await?;
        let error = refused(stage, &admin, &[&source, &destination]).await?;
        ensure!(error.contains(&digest) && error.contains("damaged"), "{error}");
        ensure!(to.images().await? == 0, "something arrived");
        stage.aws.remove_fault(&fault).await?;

        for (source, destination, sentence) in [
            (from.uri(":v2"), to.uri(""), "has no image with the tag v2"),
            (from.uri(""), to.uri(""), "names no image"),
            (source.clone(), from.uri("-none"), "create the repository first"),
            (
                source.clone(),
                to.uri(&format!("@sha256:{}", "0".repeat(64))),
                "copying changes no digest",
            ),
            (
                "docker.io/library/nginx:1".to_owned(),
                to.uri(""),
                "is not the host of a private registry",
            ),
        ] {
            let error = refused(stage, &admin, &[&source, &destination]).await?;
            ensure!(error.contains(sentence), "{sentence}: {error}");
        }
        Ok(())
    })
}

#[test]
fn a_refusal_in_the_middle_is_told_as_it_is_and_nothing_is_tried_again() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        from.push("v1", &noise(10, 3_000_000)).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        for operation in ["oci:PatchUpload", "oci:PutManifest"] {
            let denied = Effect::Error {
                status: 403,
                code: "DENIED".to_owned(),
                message: "no right to this".to_owned(),
            };
            let fault = from.fault(operation, denied, |fault| fault).await?;
            let arguments = [&*from.uri(":v1"), &*to.uri(""), "--concurrency", "1"];
            let error = refused(stage, &admin, &arguments).await?;
            ensure!(error.contains("DENIED: no right to this"), "{error}");
            ensure!(error.contains(&to.uri("")), "{error}");
            ensure!(stage.aws.fault(&fault).await?.injected == 1, "tried again");
            stage.aws.remove_fault(&fault).await?;
        }
        Ok(())
    })
}

#[test]
fn a_token_that_is_not_taken_any_more_is_replaced() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        from.push("v1", b"content").await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        let expired = "Your authorization token has expired. Reauthenticate and try again.";
        for (operation, status) in [("oci:GetManifest", 401), ("oci:StartUpload", 403)] {
            let refusal = Effect::Error {
                status,
                code: "DENIED".to_owned(),
                message: expired.to_owned(),
            };
            from.fault(operation, refusal, |fault| fault.times(1)).await?;
        }
        stage.aws.reset_calls(&from.account, REGION).await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &to.uri("")]).await?;
        ensure!(report["sent"] == 2, "{report}");
        let calls = stage.aws.calls(&from.account, REGION).await?;
        ensure!(
            calls.of("GetAuthorizationToken") == 3,
            "one, and one for each refusal: {calls:?}"
        );
        Ok(())
    })
}

#[test]
fn who_is_faster_keeps_the_tag() -> Result<()> {
    use aws_sdk_ecr::types::ImageTagMutability;
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        from.push("v1", b"ours").await?;
        let admin = from.admin().await?;
        for mutability in [ImageTagMutability::Immutable, ImageTagMutability::Mutable] {
            let to = from.beside(&mutability.as_str().to_lowercase()).await?;
            let ecr = to.ecr().await?;
            let request = ecr.put_image_tag_mutability().repository_name(&to.repository);
            request.image_tag_mutability(mutability.clone()).send().await?;
            // The first manifest is put by its digest, the second by its tag.
            let held = from
                .fault("oci:PutManifest", Effect::Hold, |fault| fault.nth(2))
                .await?;
            if mutability == ImageTagMutability::Mutable {
                let busy = Effect::Error {
                    status: 503,
                    code: "UNAVAILABLE".to_owned(),
                    message: "later".to_owned(),
                };
                from.fault("oci:PutManifest", busy, |fault| fault.nth(2)).await?;
            }
            let command = command(stage, &admin, &[&from.uri(":v1"), &to.uri("")]);
            let process = bed(stage).spawn(&format!("copy-raced-{}", mutability.as_str()), &command)?;
            stage.aws.held(&held, LIMIT).await?;
            let theirs = to.push("v1", b"theirs").await?;
            stage.aws.remove_fault(&held).await?;
            let status = process.wait_exit(LIMIT).await?;
            let printed = process.log();
            ensure!(status.code() == Some(1), "{status}: {printed}");
            ensure!(
                printed.contains(&format!("is on {theirs}")) && printed.contains("is not moved"),
                "{printed}"
            );
            ensure!(to.tag("v1").await? == Some(theirs), "moved");
        }
        Ok(())
    })
}

#[test]
fn an_image_that_is_nested_without_end_is_refused() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let mut inner = from.push_image(None, &[b"layer"], &json!({})).await?;
        for level in 1..=5 {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner.json()] });
            inner = from.push_manifest(Some(&format!("v{level}")), &index).await?;
        }
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        let report = copied(stage, &admin, &[&from.uri(":v4"), &to.uri("")]).await?;
        ensure!(report["manifests"] == 5, "{report}");
        let error = refused(stage, &admin, &[&from.uri(":v5"), &to.uri("")]).await?;
        ensure!(error.contains("nested more than 4 deep"), "{error}");
        Ok(())
    })
}

#[test]
fn a_layer_that_is_kept_elsewhere_stays_there() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        let config = from
            .stage
            .aws
            .push_blob(&from.account, REGION, &from.repository, b"{}")
            .await?;
        let foreign = json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": format!("sha256:{}", "1".repeat(64)), "size": 1_000, "urls": ["https://example.org/layer"],
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "layers": [foreign],
            "config": { "mediaType": "application/octet-stream", "digest": config, "size": 2 },
        });
        let image = from.push_manifest(Some("v1"), &manifest).await?;
        let report = copied(stage, &admin, &[&from.uri(":v1"), &to.uri("")]).await?;
        ensure!(report["elsewhere"] == 1 && report["sent"] == 1, "{report}");
        ensure!(to.tag("v1").await? == Some(image.digest), "{report}");
        Ok(())
    })
}

#[test]
fn a_large_image_needs_little_memory() -> Result<()> {
    run(async |stage| {
        let from = Shelf::new(stage, REGION).await?;
        let large = noise(9, 200 << 20);
        let digest = from.push("v1", &large).await?;
        let (to, admin) = (from.beside("to").await?, from.admin().await?);
        // Everything has been sent when the manifest is put.
        let held = from
            .fault("oci:PutManifest", Effect::Hold, |fault| fault.nth(1))
            .await?;
        let process = bed(stage).spawn("copy-large", &command(stage, &admin, &[&from.uri(":v1"), &to.uri("")]))?;
        stage
            .aws
            .held(&held, LIMIT * 6)
            .await
            .map_err(|error| process.failure(&error.to_string()))?;
        let peak = peak_memory(&process)?;
        stage.aws.remove_fault(&held).await?;
        ensure!(process.wait_exit(LIMIT).await?.success(), "{}", process.log());
        ensure!(to.tag("v1").await? == Some(digest), "{}", process.log());
        ensure!(peak < 80 << 10, "{peak} KiB for a layer of 200 MiB");
        let printed = process.log();
        ensure!(
            printed.contains("2 sent (200.00 MiB)") && !printed.contains('\u{1b}'),
            "{printed}"
        );
        Ok(())
    })
}

/// In KiB, as the kernel has seen it.
fn peak_memory(process: &Process) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmHWM")?;
    Ok(kibibytes.trim().parse()?)
}
