//! What the reads make of ECR's answers, against the stand-in.

use anyhow::Context as _;
use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use bed::{Aws, Bed};
use serde_json::{Value, json};

use super::*;
use crate::{
    aws::error::Fault,
    promotion::{
        platform::{CONFIG_LIMIT, Manifest, configured, read},
        scan::{Finding, Scan},
    },
};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";
const REPOSITORY: &str = "team-a/web";
const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

struct Stage {
    aws: Aws,
    by_hand: aws_sdk_ecr::Client,
    ecr: Ecr,
    repository: RepositoryName,
    /// An image of one platform, with the tag `v1`.
    image: Digest,
    _bed: Bed,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let bed = Bed::new()?;
        let aws = Aws::start(&bed).await?;
        let admin = aws.admin(ACCOUNT).await?;
        let by_hand = aws.ecr(REGION, &admin);
        by_hand.create_repository().repository_name(REPOSITORY).send().await?;
        let image = aws.push_image(ACCOUNT, REGION, REPOSITORY, "v1", b"content").await?;
        let ecr = Ecr::of_admin(&aws, ACCOUNT, REGION).await?;
        Ok(Self {
            by_hand,
            ecr,
            repository: REPOSITORY.parse()?,
            image: image.parse()?,
            aws,
            _bed: bed,
        })
    }

    async fn put(&self, manifest: &Value, kind: &str, tag: Option<&str>) -> anyhow::Result<Digest> {
        let put = self
            .by_hand
            .put_image()
            .repository_name(REPOSITORY)
            .image_manifest(manifest.to_string())
            .image_manifest_media_type(kind)
            .set_image_tag(tag.map(str::to_owned));
        let id = put.send().await?.image.and_then(|image| image.image_id);
        Ok(id.and_then(|id| id.image_digest).context("no digest")?.parse()?)
    }

    async fn manifest(&self) -> anyhow::Result<Value> {
        let found = self.ecr.manifest(&self.repository, &self.image).await?;
        Ok(serde_json::from_slice(&found.context("no manifest")?.1)?)
    }

    async fn set_scan(
        &self,
        status: Option<&str>,
        findings: &[Value],
        enhanced: Option<&[Value]>,
    ) -> anyhow::Result<()> {
        let scan = json!({
            "account": ACCOUNT, "region": REGION, "repository": REPOSITORY, "digest": self.image,
            "status": status, "findings": findings, "enhancedFindings": enhanced,
        });
        self.aws.finish_scan(&scan).await
    }

    async fn scan(&self, list: bool) -> anyhow::Result<Scan> {
        Ok(self.ecr.scan(&self.repository, &self.image, list).await?)
    }
}

fn unknown() -> Digest {
    Digest::from_bytes(&[7; 32])
}

#[tokio::test]
async fn an_image_is_found_by_digest_and_tag_and_one_that_is_missing_is_none() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let tag: Tag = "v1".parse()?;
    let by_tag = stage
        .ecr
        .describe_image(&stage.repository, &ImageRef::Tag(tag.clone()))
        .await?
        .context("no image")?;
    assert_eq!((&by_tag.digest, &by_tag.tags), (&stage.image, &vec![tag]));
    assert!(by_tag.can_run() && !by_tag.is_index());
    let by_digest = ImageRef::Digest(stage.image.clone());
    assert_eq!(
        stage.ecr.describe_image(&stage.repository, &by_digest).await?,
        Some(by_tag)
    );
    for missing in [ImageRef::Digest(unknown()), ImageRef::Tag("v2".parse()?)] {
        assert_eq!(stage.ecr.describe_image(&stage.repository, &missing).await?, None);
    }
    let elsewhere = stage.ecr.describe_image(&"team-a/none".parse()?, &by_digest).await;
    assert_eq!(
        elsewhere.map_err(|error| error.fault),
        Err(Fault::NotFound),
        "no repository is not no image"
    );

    let id = ImageIdentifier::builder().image_digest(stage.image.as_str()).build();
    let archive = stage
        .by_hand
        .update_image_storage_class()
        .repository_name(REPOSITORY)
        .image_id(id);
    archive.target_storage_class(TargetStorageClass::Archive).send().await?;
    let archived = stage
        .ecr
        .describe_image(&stage.repository, &by_digest)
        .await?
        .context("no image")?;
    assert_eq!(archived.storage, Storage::Archived);
    Ok(())
}

#[tokio::test]
async fn the_platform_of_a_single_image_stands_in_its_configuration() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let (kind, manifest) = stage
        .ecr
        .manifest(&stage.repository, &stage.image)
        .await?
        .context("no manifest")?;
    assert_eq!(kind, IMAGE_TYPE);
    let Manifest::Image { config } = read(&manifest)? else {
        anyhow::bail!("not an image: {}", String::from_utf8_lossy(&manifest));
    };
    let blob = stage
        .ecr
        .small_blob(&stage.repository, &config.digest, CONFIG_LIMIT)
        .await?;
    assert_eq!(blob.len() as u64, config.size);
    assert_eq!(configured(&blob, &stage.image)?.list(), "linux/amd64");

    let too_small = stage.ecr.small_blob(&stage.repository, &config.digest, 10).await;
    assert!(too_small.is_err_and(|error| error.message.contains("larger than the 10 bytes")));
    let missing = stage.ecr.small_blob(&stage.repository, &unknown(), CONFIG_LIMIT).await;
    assert_eq!(missing.map_err(|error| error.fault), Err(Fault::NotFound));
    assert_eq!(stage.ecr.manifest(&stage.repository, &unknown()).await?, None);
    Ok(())
}

#[tokio::test]
async fn an_index_and_what_belongs_to_an_image_are_told_apart() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut manifest = stage.manifest().await?;
    let child = json!({
        "mediaType": IMAGE_TYPE, "digest": stage.image, "size": manifest.to_string().len(),
        "platform": { "os": "linux", "architecture": "amd64" }
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [child] });
    let index = stage.put(&index, INDEX_TYPE, Some("multi")).await?;
    let described = |digest: Digest| async {
        let image = ImageRef::Digest(digest);
        anyhow::Ok(
            stage
                .ecr
                .describe_image(&stage.repository, &image)
                .await?
                .context("no image")?,
        )
    };
    let of_index = described(index.clone()).await?;
    assert!(of_index.is_index() && of_index.can_run());
    let stored = stage
        .ecr
        .manifest(&stage.repository, &index)
        .await?
        .context("no manifest")?
        .1;
    let Manifest::Index(platforms) = read(&stored)? else {
        anyhow::bail!("not an index")
    };
    assert_eq!(platforms.list(), "linux/amd64");

    manifest["subject"] = json!({ "mediaType": INDEX_TYPE, "digest": index, "size": stored.len() });
    manifest["artifactType"] = json!("application/vnd.dev.sigstore.bundle.v0.3+json");
    let referrer = stage.put(&manifest, IMAGE_TYPE, None).await?;
    let of_referrer = described(referrer.clone()).await?;
    assert_eq!(of_referrer.subject, Some(index.clone()));
    assert!(!of_referrer.can_run());
    let referrers = |kind: &'static str| stage.ecr.referrers_of_type(&stage.repository, &index, kind);
    assert_eq!(
        referrers("application/vnd.dev.sigstore.bundle.v0.3+json").await?,
        [referrer]
    );
    assert_eq!(referrers("application/spdx+json").await?, []);
    Ok(())
}

#[tokio::test]
async fn findings_of_both_sorts_of_scanning_are_read_and_each_state_is_passed_on() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let nothing = |status: Option<&str>| Scan {
        status: status.map(str::to_owned),
        findings: None,
    };
    assert_eq!(stage.scan(true).await?, nothing(None));
    for status in ["PENDING", "FAILED", "IMAGE_SIZE_EXCEEDED"] {
        stage.set_scan(Some(status), &[], None).await?;
        assert_eq!(stage.scan(true).await?, nothing(Some(status)));
    }

    let basic = |number: u32| json!({ "name": format!("CVE-{number}"), "severity": "CRITICAL" });
    stage
        .set_scan(Some("COMPLETE"), &(0..250).map(basic).collect::<Vec<_>>(), None)
        .await?;
    let scan = stage.scan(true).await?;
    let findings = scan.findings.context("no findings")?;
    assert_eq!((scan.status.as_deref(), findings.list.len()), (Some("COMPLETE"), 250));
    assert_eq!(findings.counts.get("CRITICAL"), Some(&250));
    let expected = Finding {
        id: "CVE-0".into(),
        severity: "CRITICAL".into(),
        fix_available: None,
        active: true,
    };
    assert_eq!(findings.list[0], expected);
    stage.aws.reset_calls(ACCOUNT, REGION).await?;
    let counted = stage.scan(false).await?.findings.context("no findings")?;
    assert_eq!(counted.counts, findings.counts);
    assert_eq!(
        stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImageScanFindings"),
        1
    );

    let enhanced = json!([
        { "severity": "HIGH", "status": "ACTIVE", "fixAvailable": "NO", "title": "t", "packageVulnerabilityDetails": { "vulnerabilityId": "CVE-1" } },
        { "severity": "HIGH", "status": "SUPPRESSED", "fixAvailable": "YES", "title": "CVE-2 - curl" },
    ]);
    stage
        .set_scan(Some("ACTIVE"), &[], enhanced.as_array().map(Vec::as_slice))
        .await?;
    let findings = stage.scan(true).await?.findings.context("no findings")?;
    let told: Vec<(&str, Option<bool>, bool)> = findings
        .list
        .iter()
        .map(|finding| (finding.id.as_str(), finding.fix_available, finding.active))
        .collect();
    assert_eq!(
        told,
        [("CVE-1", Some(false), true), ("CVE-2 - curl", Some(true), false)]
    );
    stage.set_scan(Some("ACTIVE"), &[], Some(&[])).await?;
    assert_eq!(
        stage.scan(true).await?.findings,
        Some(crate::promotion::scan::Findings::default())
    );

    let missing = stage.ecr.scan(&stage.repository, &unknown(), true).await;
    assert_eq!(missing.map_err(|error| error.fault), Err(Fault::NotFound));
    Ok(())
}
