//! What the findings of a scan mean for the gate. Pure.
//!
//! | `imageScanStatus` | Means |
//! |---|---|
//! | `COMPLETE` (basic), `ACTIVE` (enhanced) with findings | they are judged |
//! | the same without findings yet, `PENDING`, `IN_PROGRESS`, no scan known (`ScanNotFoundException`) | pending: waited for |
//! | `FAILED`, `UNSUPPORTED_IMAGE`, `SCAN_ELIGIBILITY_EXPIRED`, `FINDINGS_UNAVAILABLE`, `LIMIT_EXCEEDED`, `IMAGE_ARCHIVED`, `IMAGE_SIZE_EXCEEDED`, any other | unavailable: `onUnavailable` decides |
//!
//! Severities are counted by ECR; the list of findings is needed only to take those out that do not count. What of the
//! list was not read, or not told, counts. ECR does not scan an index: each of its images is judged, and each must pass.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::{
    names::Digest,
    promotion::{OnUnavailable, ScanGate},
};

/// How many images a message speaks of one by one.
const MOST_TOLD: usize = 4;

/// What ECR tells of the scan of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// As AWS spells it; `None` where ECR knows of no scan.
    pub status: Option<String>,
    /// `None` where there are none to be told yet; an empty one is a clean image.
    pub findings: Option<Findings>,
}

/// The findings of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// By severity as AWS spells it, ECR's count; a severity without any is absent.
    pub counts: BTreeMap<String, u64>,
    /// One by one, as far as they were read.
    pub list: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Such as `CVE-2026-12345`.
    pub id: String,
    /// As AWS spells it.
    pub severity: String,
    /// Whether an update mends it; `None` where the scan does not tell, as basic ones do not.
    pub fix_available: Option<bool>,
    /// False for one that Inspector has closed or that a rule there suppresses; ECR's count may leave it out.
    pub active: bool,
}

/// The scan of one image of the candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// How the image is called in messages: its platform, or the first digits of its digest.
    pub name: String,
    pub digest: Digest,
    pub scan: Scan,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// It is waited for, whatever `onUnavailable` says.
    Pending(String),
    /// There will be no findings, and `onUnavailable` is `Block`.
    Unavailable(String),
    /// There is too much.
    Exceeded(String),
}

/// What a status means by itself.
enum Meaning<'a> {
    Findings(&'a Findings),
    Pending(&'static str),
    Unavailable(String),
}

/// Whether the list of findings is needed, beyond ECR's counts, to judge by this gate. Reading it takes a call for each
/// hundred findings.
pub(crate) fn needs_list(gate: &ScanGate, now: Timestamp) -> bool {
    gate.fixable_only || gate.ignore.iter().any(|ignored| ignored.expires > now)
}

/// Judges the images of a candidate, or of what runs. The worst is told: too much before unavailable before pending.
pub(crate) fn judge(gate: &ScanGate, images: &[Scanned], now: Timestamp) -> Verdict {
    let (mut exceeded, mut unavailable, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    if images.is_empty() {
        unavailable.push("it has no image that could be scanned".to_owned());
    }
    for image in images {
        let name = &image.name;
        match meaning(&image.scan) {
            Meaning::Findings(findings) => {
                exceeded.extend(excess(gate, findings, now).map(|text| format!("{text} on {name}")));
            }
            Meaning::Unavailable(why) => unavailable.push(format!("{name} {why}")),
            Meaning::Pending(why) => pending.push(format!("{name} {why}")),
        }
    }
    if !exceeded.is_empty() {
        Verdict::Exceeded(joined(exceeded))
    } else if !unavailable.is_empty() && gate.on_unavailable == OnUnavailable::Block {
        Verdict::Unavailable(format!(
            "{}; scan it again, or set gates.scan.onUnavailable to Allow",
            joined(unavailable)
        ))
    } else if !pending.is_empty() {
        Verdict::Pending(joined(pending))
    } else {
        Verdict::Passed
    }
}

/// What there is to say of several images, of the first few in full.
fn joined(mut told: Vec<String>) -> String {
    let more = told.len().saturating_sub(MOST_TOLD);
    told.truncate(MOST_TOLD);
    let told = told.join("; ");
    match more {
        0 => told,
        more => format!("{told}; and {more} more of its images"),
    }
}

fn meaning(scan: &Scan) -> Meaning<'_> {
    let Some(status) = &scan.status else {
        return Meaning::Pending("was not scanned yet; if it is not going to be, turn scanning on for the repository");
    };
    let why = match status.as_str() {
        "COMPLETE" | "ACTIVE" => {
            return match &scan.findings {
                Some(findings) => Meaning::Findings(findings),
                None => Meaning::Pending("was scanned, and its findings are not there yet"),
            };
        }
        "PENDING" | "IN_PROGRESS" => return Meaning::Pending("is being scanned"),
        "FAILED" => "could not be scanned",
        "UNSUPPORTED_IMAGE" => "is not of a sort that ECR can scan",
        "SCAN_ELIGIBILITY_EXPIRED" => "is too old to be scanned by Inspector; its findings expired",
        "FINDINGS_UNAVAILABLE" => "has no findings that can be had",
        "LIMIT_EXCEEDED" => "was not scanned because a quota of Inspector is used up",
        "IMAGE_ARCHIVED" => "is archived and not scanned",
        "IMAGE_SIZE_EXCEEDED" => "is too large to be scanned",
        other => {
            return Meaning::Unavailable(format!(
                "has a scan in the state {}",
                other.chars().take(64).collect::<String>()
            ));
        }
    };
    Meaning::Unavailable(why.to_owned())
}

/// By how much the findings exceed the gate, in words; `None` where they do not.
fn excess(gate: &ScanGate, findings: &Findings, now: Timestamp) -> Option<String> {
    let limits = [
        ("CRITICAL", Some(gate.max_critical)),
        ("HIGH", gate.max_high),
        ("MEDIUM", gate.max_medium),
    ];
    let mut parts = Vec::new();
    for (severity, limit) in limits {
        let Some(limit) = limit else { continue };
        let counted = count(gate, findings, severity, now);
        if counted > u64::from(limit) {
            let names = examples(gate, findings, severity, now);
            parts.push(format!("{counted} {severity} (at most {limit}){names}"));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How many findings of a severity count. ECR's count less those that were seen not to; one that was not seen counts.
fn count(gate: &ScanGate, findings: &Findings, severity: &str, now: Timestamp) -> u64 {
    let told = findings.counts.get(severity).copied().unwrap_or(0);
    let of_severity = || {
        findings
            .list
            .iter()
            .filter(|finding| finding.active && finding.severity == severity)
    };
    let seen = of_severity().count() as u64;
    let not_counted = of_severity().filter(|finding| !counts(gate, finding, now)).count() as u64;
    told.max(seen) - not_counted
}

fn counts(gate: &ScanGate, finding: &Finding, now: Timestamp) -> bool {
    let ignored = gate
        .ignore
        .iter()
        .any(|ignored| ignored.expires > now && ignored.id.eq_ignore_ascii_case(&finding.id));
    let unfixable = gate.fixable_only && finding.fix_available == Some(false);
    !ignored && !unfixable
}

/// The first few ids, where the list was read.
fn examples(gate: &ScanGate, findings: &Findings, severity: &str, now: Timestamp) -> String {
    let mut ids: Vec<&str> = findings
        .list
        .iter()
        .filter(|finding| finding.active && finding.severity == severity && counts(gate, finding, now))
        .map(|finding| finding.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(3);
    match ids.is_empty() {
        true => String::new(),
        false => format!(" such as {}", ids.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gate(gate: Value) -> ScanGate {
        serde_json::from_value(gate).unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn scanned(name: &str, status: Option<&str>, findings: Option<Findings>) -> Scanned {
        Scanned {
            name: name.into(),
            digest: format!("sha256:{:064x}", 1).parse().unwrap(),
            scan: Scan {
                status: status.map(Into::into),
                findings,
            },
        }
    }

    fn counted(counts: &[(&str, u64)]) -> Findings {
        Findings {
            counts: counts
                .iter()
                .map(|(severity, count)| ((*severity).to_owned(), *count))
                .collect(),
            list: Vec::new(),
        }
    }

    fn finding(id: &str, severity: &str, fix_available: Option<bool>) -> Finding {
        Finding {
            id: id.into(),
            severity: severity.into(),
            fix_available,
            active: true,
        }
    }

    fn verdict(scan_gate: Value, findings: Findings) -> Verdict {
        judge(
            &gate(scan_gate),
            &[scanned("linux/amd64", Some("COMPLETE"), Some(findings))],
            now(),
        )
    }

    #[test]
    fn each_severity_has_its_limit() {
        assert_eq!(
            verdict(json!({}), counted(&[("HIGH", 90), ("MEDIUM", 9)])),
            Verdict::Passed
        );
        assert_eq!(
            verdict(json!({}), counted(&[("CRITICAL", 2)])),
            Verdict::Exceeded("2 CRITICAL (at most 0) on linux/amd64".into())
        );
        let strict = json!({ "maxCritical": 1, "maxHigh": 5, "maxMedium": 0 });
        assert_eq!(
            verdict(strict.clone(), counted(&[("CRITICAL", 1), ("HIGH", 5), ("LOW", 900)])),
            Verdict::Passed
        );
        assert_eq!(
            verdict(strict, counted(&[("CRITICAL", 1), ("HIGH", 6), ("MEDIUM", 1)])),
            Verdict::Exceeded("6 HIGH (at most 5), 1 MEDIUM (at most 0) on linux/amd64".into())
        );
    }

    #[test]
    fn every_image_must_pass_and_the_worst_is_told() {
        let images = [
            scanned("linux/amd64", Some("COMPLETE"), Some(counted(&[]))),
            scanned("linux/arm64", Some("ACTIVE"), Some(counted(&[("CRITICAL", 1)]))),
            scanned("linux/s390x", Some("IN_PROGRESS"), None),
            scanned("windows/amd64", Some("UNSUPPORTED_IMAGE"), None),
        ];
        let block = gate(json!({}));
        let allow = gate(json!({ "onUnavailable": "Allow" }));
        assert_eq!(
            judge(&block, &images, now()),
            Verdict::Exceeded("1 CRITICAL (at most 0) on linux/arm64".into())
        );
        let without = [images[0].clone(), images[2].clone(), images[3].clone()];
        assert!(
            matches!(judge(&block, &without, now()), Verdict::Unavailable(why) if why.starts_with("windows/amd64 is not of a sort"))
        );
        assert_eq!(
            judge(&allow, &without, now()),
            Verdict::Pending("linux/s390x is being scanned".into())
        );
        let without = [images[0].clone(), images[3].clone()];
        assert_eq!(judge(&allow, &without, now()), Verdict::Passed);
    }

    #[test]
    fn of_many_images_only_some_are_named() {
        let images: Vec<Scanned> = (0..6)
            .map(|number| scanned(&format!("linux/a{number}"), Some("PENDING"), None))
            .collect();
        let Verdict::Pending(why) = judge(&gate(json!({})), &images, now()) else {
            panic!("not pending");
        };
        assert!(why.contains("linux/a3") && !why.contains("linux/a4"), "{why}");
        assert!(why.ends_with("; and 2 more of its images"), "{why}");
    }

    #[test]
    fn where_there_is_nothing_to_scan_nothing_was_scanned() {
        assert!(matches!(judge(&gate(json!({})), &[], now()), Verdict::Unavailable(_)));
        assert_eq!(
            judge(&gate(json!({ "onUnavailable": "Allow" })), &[], now()),
            Verdict::Passed
        );
    }

    #[test]
    fn each_status_has_its_meaning() {
        let judge_status =
            |status: Option<&str>, scan_gate: Value| judge(&gate(scan_gate), &[scanned("x", status, None)], now());
        for status in [
            None,
            Some("PENDING"),
            Some("IN_PROGRESS"),
            Some("COMPLETE"),
            Some("ACTIVE"),
        ] {
            for on_unavailable in ["Block", "Allow"] {
                let verdict = judge_status(status, json!({ "onUnavailable": on_unavailable }));
                assert!(matches!(verdict, Verdict::Pending(_)), "{status:?}: {verdict:?}");
            }
        }
        for status in [
            "FAILED",
            "UNSUPPORTED_IMAGE",
            "SCAN_ELIGIBILITY_EXPIRED",
            "FINDINGS_UNAVAILABLE",
            "LIMIT_EXCEEDED",
            "IMAGE_ARCHIVED",
            "IMAGE_SIZE_EXCEEDED",
            "SOMETHING_NEW",
        ] {
            assert!(
                matches!(judge_status(Some(status), json!({})), Verdict::Unavailable(_)),
                "{status}"
            );
            assert_eq!(
                judge_status(Some(status), json!({ "onUnavailable": "Allow" })),
                Verdict::Passed,
                "{status}"
            );
        }
    }

    #[test]
    fn an_ignored_finding_does_not_count_until_its_entry_expires() {
        let findings = Findings {
            list: vec![
                finding("CVE-2026-1", "CRITICAL", None),
                finding("CVE-2026-1", "CRITICAL", None),
                finding("CVE-2026-2", "CRITICAL", None),
            ],
            ..counted(&[("CRITICAL", 3)])
        };
        let ignoring = |id: &str, expires: &str| json!({ "maxCritical": 1, "ignore": [{ "id": id, "reason": "not reachable", "expires": expires }] });
        assert_eq!(
            verdict(ignoring("cve-2026-1", "2026-12-01T00:00:00Z"), findings.clone()),
            Verdict::Passed
        );
        let expired = ignoring("CVE-2026-1", "2026-11-24T12:00:00Z");
        assert_eq!(
            verdict(expired.clone(), findings.clone()),
            Verdict::Exceeded("3 CRITICAL (at most 1) such as CVE-2026-1, CVE-2026-2 on linux/amd64".into())
        );
        assert!(matches!(
            verdict(ignoring("CVE-2026-3", "2026-12-01T00:00:00Z"), findings),
            Verdict::Exceeded(_)
        ));
        assert!(!needs_list(&gate(expired), now()));
        let valid = gate(ignoring("CVE-2026-1", "2026-12-01T00:00:00Z"));
        assert!(needs_list(&valid, now()));
    }

    #[test]
    fn with_fixable_only_what_cannot_be_fixed_does_not_count_where_that_is_known() {
        let findings = |fix: Option<bool>| Findings {
            list: vec![finding("CVE-1", "CRITICAL", fix)],
            ..counted(&[("CRITICAL", 1)])
        };
        let fixable_only = json!({ "fixableOnly": true });
        assert!(needs_list(&gate(fixable_only.clone()), now()));
        assert_eq!(verdict(fixable_only.clone(), findings(Some(false))), Verdict::Passed);
        assert!(matches!(
            verdict(fixable_only.clone(), findings(Some(true))),
            Verdict::Exceeded(_)
        ));
        assert!(
            matches!(verdict(fixable_only, findings(None)), Verdict::Exceeded(_)),
            "basic scanning does not tell"
        );
        assert!(matches!(
            verdict(json!({}), findings(Some(false))),
            Verdict::Exceeded(_)
        ));
    }

    #[test]
    fn what_was_not_read_counts_and_what_is_suppressed_takes_nothing_off() {
        let ignoring = json!({ "ignore": [{ "id": "CVE-1", "reason": "x", "expires": "2027-01-01T00:00:00Z" }] });
        let suppressed = Finding {
            active: false,
            ..finding("CVE-1", "CRITICAL", None)
        };
        let unread = Findings {
            list: vec![finding("CVE-1", "CRITICAL", None)],
            ..counted(&[("CRITICAL", 2)])
        };
        assert_eq!(
            verdict(ignoring.clone(), unread),
            Verdict::Exceeded("1 CRITICAL (at most 0) on linux/amd64".into())
        );
        let inactive = Findings {
            list: vec![suppressed.clone()],
            ..counted(&[("CRITICAL", 1)])
        };
        assert!(matches!(verdict(ignoring, inactive), Verdict::Exceeded(_)));
        // Without a count, the list is believed, and what is suppressed is not in it.
        let listed = Findings {
            list: vec![suppressed],
            ..counted(&[])
        };
        assert_eq!(verdict(json!({}), listed), Verdict::Passed);
    }
}
