//! Scans of images.

use aws_sdk_ecr::types::{FindingSeverity, ImageTagMutability, ScanStatus};
use serde_json::json;

use crate::bed::{ACCOUNT, Bed, REGION, code};
use crate::images::{by_tag, put, repository};

#[tokio::test]
async fn a_scan_finds_what_was_set_for_it() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let (_, digest) = put(&ecr, "app", "v1").await;
    let describe = || {
        ecr.describe_image_scan_findings()
            .repository_name("app")
            .image_id(by_tag("v1"))
            .send()
    };
    assert_eq!(code(describe().await), "ScanNotFoundException");
    let findings = json!([{ "name": "CVE-1", "severity": "CRITICAL" }, { "name": "CVE-2", "severity": "LOW" }]);
    let scan = json!({
        "account": ACCOUNT, "region": REGION, "repository": "app", "digest": digest,
        "status": "COMPLETE", "findings": findings,
    });
    bed.control("POST", "/scan", scan).await.unwrap();
    let scan = describe().await.unwrap();
    assert_eq!(scan.image_scan_status().unwrap().status(), Some(&ScanStatus::Complete));
    let found = scan.image_scan_findings().unwrap();
    assert_eq!(found.findings().len(), 2);
    let counts = found.finding_severity_counts().unwrap();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[&FindingSeverity::Critical], 1);
    // Once in 24 hours.
    let start = || {
        ecr.start_image_scan()
            .repository_name("app")
            .image_id(by_tag("v1"))
            .send()
    };
    start().await.unwrap();
    assert_eq!(code(start().await), "LimitExceededException");
}

#[tokio::test]
async fn a_push_is_scanned_where_the_repository_wants_it() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let on = aws_sdk_ecr::types::ImageScanningConfiguration::builder()
        .scan_on_push(true)
        .build();
    let configure = ecr.put_image_scanning_configuration().repository_name("app");
    configure.image_scanning_configuration(on).send().await.unwrap();
    put(&ecr, "app", "v1").await;
    let describe = || {
        ecr.describe_image_scan_findings()
            .repository_name("app")
            .image_id(by_tag("v1"))
            .send()
    };
    for _ in 0..100 {
        let scan = describe().await.unwrap();
        if scan.image_scan_status().unwrap().status() == Some(&ScanStatus::Complete) {
            assert!(scan.image_scan_findings().unwrap().findings().is_empty());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the scan did not end");
}

#[tokio::test]
async fn a_scan_is_in_any_state_that_was_set_and_has_findings_of_inspector() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let (_, digest) = put(&ecr, "app", "v1").await;
    let set = |status: Option<&str>, enhanced: Option<Vec<serde_json::Value>>| {
        let scan = json!({
            "account": ACCOUNT, "region": REGION, "repository": "app", "digest": digest,
            "status": status, "enhancedFindings": enhanced,
        });
        bed.control("POST", "/scan", scan)
    };
    let describe = |token: Option<String>| {
        ecr.describe_image_scan_findings()
            .repository_name("app")
            .image_id(by_tag("v1"))
            .max_results(1000)
            .set_next_token(token)
            .send()
    };
    for status in [
        "PENDING",
        "UNSUPPORTED_IMAGE",
        "SCAN_ELIGIBILITY_EXPIRED",
        "IMAGE_SIZE_EXCEEDED",
    ] {
        set(Some(status), None).await.unwrap();
        let scan = describe(None).await.unwrap();
        assert_eq!(scan.image_scan_status().unwrap().status().unwrap().as_str(), status);
        assert!(scan.image_scan_findings().is_none(), "{status}");
    }
    let finding = |number: usize| {
        json!({
            "severity": "HIGH", "status": "ACTIVE", "fixAvailable": "NO",
            "packageVulnerabilityDetails": { "vulnerabilityId": format!("CVE-{number}") },
        })
    };
    set(Some("ACTIVE"), Some((0..150).map(finding).collect()))
        .await
        .unwrap();
    let first = describe(None).await.unwrap();
    let found = first.image_scan_findings().unwrap();
    assert_eq!(found.enhanced_findings().len(), 100);
    assert!(found.findings().is_empty());
    assert_eq!(found.finding_severity_counts().unwrap()[&FindingSeverity::High], 150);
    assert_eq!(found.enhanced_findings()[0].fix_available(), Some("NO"));
    let second = describe(first.next_token().map(str::to_owned)).await.unwrap();
    assert_eq!(second.image_scan_findings().unwrap().enhanced_findings().len(), 50);
    assert!(second.next_token().is_none());

    set(None, None).await.unwrap();
    assert_eq!(code(describe(None).await), "ScanNotFoundException");
}
