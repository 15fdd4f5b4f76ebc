//! What ECR tells of the scan of an image, by basic or by enhanced scanning.

use aws_sdk_ecr::types::{EnhancedImageScanFinding, ImageScanFinding};

use super::{
    client::{Ecr, call},
    error::AwsError,
    images::ImageRef,
};
use crate::{
    api::names::{Digest, RepositoryName},
    promotion::scan::{Finding, Findings, Scan},
};

/// How many findings a page holds; enhanced scanning gives no more.
const PAGE: i32 = 100;

/// How many pages are read of one image.
const MOST_PAGES: usize = 50;

impl Ecr {
    /// What is known of the scan of one image. Reads the findings one by one only where `list` is set, up to a bound;
    /// ECR's counts are complete in any case. Fails where the image does not exist.
    pub(crate) async fn scan(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        list: bool,
    ) -> Result<Scan, AwsError> {
        let mut scan = Scan {
            status: None,
            findings: None,
        };
        let mut token = None;
        for _ in 0..MOST_PAGES {
            let request = self
                .client
                .describe_image_scan_findings()
                .registry_id(self.registry_id.as_str())
                .repository_name(repository.as_str())
                .image_id(ImageRef::Digest(digest.clone()).id())
                .max_results(PAGE)
                .set_next_token(token);
            let page = match call!(self, read "DescribeImageScanFindings", request) {
                Err(error) if error.is("ScanNotFoundException") => break,
                page => page?,
            };
            scan.status = page
                .image_scan_status
                .and_then(|status| status.status)
                .map(|status| status.as_str().to_owned())
                .or(scan.status);
            if let Some(found) = page.image_scan_findings {
                let findings = scan.findings.get_or_insert_with(Findings::default);
                for (severity, count) in found.finding_severity_counts.unwrap_or_default() {
                    let count = u64::try_from(count).unwrap_or(0);
                    findings.counts.insert(severity.as_str().to_owned(), count);
                }
                findings
                    .list
                    .extend(found.findings.unwrap_or_default().into_iter().map(basic));
                findings
                    .list
                    .extend(found.enhanced_findings.unwrap_or_default().into_iter().map(enhanced));
            }
            token = page.next_token;
            if token.is_none() || !list {
                break;
            }
        }
        Ok(scan)
    }
}

fn basic(finding: ImageScanFinding) -> Finding {
    Finding {
        id: finding.name.unwrap_or_default(),
        severity: finding
            .severity
            .map(|severity| severity.as_str().to_owned())
            .unwrap_or_default(),
        fix_available: None,
        active: true,
    }
}

fn enhanced(finding: EnhancedImageScanFinding) -> Finding {
    let id = finding
        .package_vulnerability_details
        .and_then(|details| details.vulnerability_id)
        .or(finding.title);
    Finding {
        id: id.unwrap_or_default(),
        severity: finding.severity.unwrap_or_default(),
        fix_available: finding.fix_available.map(|available| available != "NO"),
        active: !matches!(finding.status.as_deref(), Some("SUPPRESSED" | "CLOSED")),
    }
}
