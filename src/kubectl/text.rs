//! Promotions as lines for people. Nothing here does I/O or asks for the time.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::{
    api::{
        ImagePromotion,
        promotion::{HistoryEntry, ImagePromotionStatus, ImageStatus},
    },
    terminal::table::{plain, table},
};

/// What stands where there is nothing.
const NONE: &str = "-";

/// A line of each promotion.
pub(super) fn list(promotions: &[ImagePromotion], with_namespace: bool, now: Timestamp) -> String {
    let header = [
        "NAMESPACE",
        "NAME",
        "CURRENT",
        "CANDIDATE",
        "PHASE",
        "WAITS FOR",
        "HELD",
        "READY",
        "REASON",
        "AGE",
    ];
    let rows = promotions.iter().map(|promotion| {
        let empty = ImagePromotionStatus::default();
        let status = promotion.status.as_ref().unwrap_or(&empty);
        let ready = condition(status, "Ready");
        let created = promotion.creation_timestamp();
        [
            promotion.namespace().unwrap_or_default(),
            promotion.name_any(),
            name(status.current.as_ref()),
            name(status.candidate.as_ref()),
            status.phase.clone().unwrap_or_else(none),
            status
                .blocked_by
                .first()
                .map_or_else(none, |blocked| word(&blocked.gate)),
            status.hold.as_ref().map_or_else(none, |hold| word(&hold.kind)),
            ready.map_or_else(none, |ready| ready.status.clone()),
            ready.map_or_else(none, |ready| ready.reason.clone()),
            created.map_or_else(none, |created| ago(created.0, now)),
        ]
    });
    let skipped = usize::from(!with_namespace);
    table(&header[skipped..], rows.map(|row| row.into_iter().skip(skipped)))
}

/// Everything there is to say about one promotion.
// Writing to a String cannot fail, so the results are dropped.
pub(super) fn detail(promotion: &ImagePromotion, now: Timestamp) -> String {
    let mut text = format!(
        "ImagePromotion {}/{}\n",
        promotion.namespace().unwrap_or_default(),
        promotion.name_any()
    );
    let Some(status) = &promotion.status else {
        return text + "  the operator has not looked at it yet\n";
    };
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {:<12}{}", format!("{name}:"), plain(&value));
    };
    if let Some(ready) = condition(status, "Ready") {
        line(
            "Ready",
            format!("{} ({}): {}", ready.status, ready.reason, ready.message),
        );
    }
    if promotion.spec.suspend {
        line(
            "Suspended",
            "nothing is looked at or written until spec.suspend is false".into(),
        );
    }
    line("Phase", status.phase.clone().unwrap_or_else(none));
    for (name, found) in [
        ("Current", &status.current),
        ("Candidate", &status.candidate),
        ("Requested", &status.requested),
        ("Last good", &status.last_good),
        ("Previous", &status.previous),
    ] {
        if let Some(found) = found {
            line(name, image(found, now));
        }
    }
    if let Some(rollout) = &status.rollout {
        let (kind, phase, by) = (word(&rollout.kind), word(&rollout.phase), word(&rollout.by));
        let since = ago(rollout.since, now);
        let reason = because(&rollout.reason);
        line(
            "Rollout",
            format!(
                "#{} {kind} to {}, {phase} for {since}, by {by}{reason}",
                rollout.id, rollout.image.name
            ),
        );
    }
    if let Some(hold) = &status.hold {
        let (kind, until) = (word(&hold.kind), word(&hold.until));
        let since = ago(hold.since, now);
        line(
            "Held",
            format!("{kind} for {since}, until {until}{}", because(&hold.reason)),
        );
    }
    if let Some(regression) = &status.regression {
        line("Regression", regression.clone());
    }
    if let Some(answer) = &status.last_answer {
        line("Answered", answer.clone());
    }
    parts(&mut text, status, now);
    text
}

/// The lists of a promotion, each a table of its own.
fn parts(text: &mut String, status: &ImagePromotionStatus, now: Timestamp) {
    let blocked = status
        .blocked_by
        .iter()
        .map(|blocked| [word(&blocked.gate), ago(blocked.since, now), blocked.message.clone()]);
    let targets = status.targets.iter().map(|target| {
        [
            format!("{}/{}", target.kind.as_str(), target.name),
            word(&target.via),
            word(&target.phase),
            target
                .digest
                .as_ref()
                .map_or_else(none, |digest| digest.short().to_owned()),
            target.message.clone(),
        ]
    });
    let rejected = status.rejected.iter().map(|rejection| {
        [
            rejection.name.clone(),
            rejection.digest.short().to_owned(),
            word(&rejection.by),
            ago(rejection.at, now),
            rejection.reason.clone(),
        ]
    });
    let approvals = status.approvals.iter().map(|approval| {
        [
            approval.digest.short().to_owned(),
            approval.by.clone(),
            ago(approval.at, now),
        ]
    });
    for (title, part) in [
        ("Waits for", table(&["GATE", "SINCE", "WHAT"], blocked)),
        (
            "Targets",
            table(&["TARGET", "VIA", "PHASE", "DIGEST", "MESSAGE"], targets),
        ),
        ("Rejected", table(&["IMAGE", "DIGEST", "BY", "AGE", "REASON"], rejected)),
        ("Approvals", table(&["DIGEST", "BY", "AGE"], approvals)),
    ] {
        if part.lines().count() > 1 {
            let _ = write!(text, "\n{title}\n{part}");
        }
    }
}

/// A line of each ended rollout.
pub(super) fn history(entries: &[HistoryEntry], now: Timestamp) -> String {
    if entries.is_empty() {
        return "no rollout has ended yet\n".into();
    }
    let rows = entries.iter().map(|entry| {
        [
            entry.id.to_string(),
            word(&entry.kind),
            entry.image.name.clone(),
            entry.image.digest.short().to_owned(),
            word(&entry.outcome),
            ago(entry.finished_at, now),
            ago(entry.started_at, entry.finished_at),
            word(&entry.by),
            entry.reason.clone(),
        ]
    });
    table(
        &[
            "ID", "KIND", "IMAGE", "DIGEST", "OUTCOME", "AGE", "TOOK", "BY", "REASON",
        ],
        rows,
    )
}

/// An image with all that tells it apart.
pub(super) fn image(image: &ImageStatus, now: Timestamp) -> String {
    let mut text = format!("{} {}", plain(&image.name), image.digest);
    for (what, time) in [("pushed", image.pushed_at), ("since", image.since)] {
        if let Some(time) = time {
            let _ = match what {
                "pushed" => write!(text, ", pushed {} ago", ago(time, now)),
                _ => write!(text, ", for {}", ago(time, now)),
            };
        }
    }
    text
}

/// How long ago something was, in its largest unit.
fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A value as it stands in the object.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => none(),
    }
}

fn name(image: Option<&ImageStatus>) -> String {
    image.map_or_else(none, |image| image.name.clone())
}

fn none() -> String {
    NONE.to_owned()
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

pub(super) fn condition<'a>(status: &'a ImagePromotionStatus, type_: &str) -> Option<&'a Condition> {
    status
        .common
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn promotion(name: &str, status: &Value) -> ImagePromotion {
        serde_json::from_value(json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ImagePromotion",
            "metadata": { "name": name, "namespace": "team-a", "creationTimestamp": "2026-11-21T12:00:00Z" },
            "spec": { "source": { "repositoryRef": { "name": "app" }, "policy": { "latestPushed": {} } } },
            "status": status,
        }))
        .unwrap()
    }

    fn whole() -> ImagePromotion {
        let image = |name: &str, letter: char| json!({ "name": name, "digest": digest(letter), "pushedAt": "2026-11-24T09:00:00Z" });
        promotion(
            "app",
            &json!({
                "conditions": [{ "type": "Ready", "status": "False", "reason": "Blocked", "message": "waits for an approval",
                    "lastTransitionTime": "2026-11-24T11:00:00Z" }],
                "phase": "Waiting",
                "current": image("v1.1.0", 'a'),
                "candidate": image("v1.2.0", 'b'),
                "hold": { "kind": "RolledBack", "reason": "it\u{1b}[2Jcrashed\n", "since": "2026-11-24T11:59:00Z", "until": "NewerImage" },
                "blockedBy": [{ "gate": "Approval", "message": "1 of 2 people", "since": "2026-11-24T11:00:00Z" }],
                "targets": [{ "kind": "Deployment", "name": "app", "via": "Auto", "phase": "Healthy", "digest": digest('a') }],
                "lastAnswer": "approved",
                "history": [{ "id": 1, "kind": "Promotion", "image": image("v1.1.0", 'a'), "startedAt": "2026-11-24T10:00:00Z",
                    "finishedAt": "2026-11-24T10:01:30Z", "outcome": "Succeeded", "by": "Operator" }],
            }),
        )
    }

    #[test]
    fn a_list_has_aligned_columns_and_the_namespace_where_it_differs() {
        let promotions = [whole(), promotion("müller-service", &json!({ "conditions": [] }))];
        assert_eq!(
            list(&promotions, false, now()),
            "\
NAME             CURRENT   CANDIDATE   PHASE     WAITS FOR   HELD         READY   REASON    AGE
app              v1.1.0    v1.2.0      Waiting   Approval    RolledBack   False   Blocked   3d
müller-service   -         -           -         -           -            -       -         3d
"
        );
        let all = list(&promotions, true, now());
        assert!(all.starts_with("NAMESPACE   NAME"), "{all}");
        assert!(all.contains("team-a      app"), "{all}");
    }

    #[test]
    fn one_promotion_is_told_in_full_and_nothing_in_it_steers_the_terminal() {
        let text = detail(&whole(), now());
        for line in [
            "ImagePromotion team-a/app".to_owned(),
            "  Ready:      False (Blocked): waits for an approval".to_owned(),
            format!("  Candidate:  v1.2.0 {}, pushed 3h ago", digest('b')),
            "  Held:       RolledBack for 60s, until NewerImage: it [2Jcrashed ".to_owned(),
            "  Answered:   approved".to_owned(),
            "Waits for".to_owned(),
            "Approval   60m     1 of 2 people".to_owned(),
            "Deployment/app   Auto   Healthy   aaaaaaaaaaaa".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("Rejected"), "{text}");
        assert!(!text.contains('\u{1b}'));
        let mut unseen = whole();
        unseen.status = None;
        assert!(detail(&unseen, now()).contains("has not looked at it yet"));
    }

    #[test]
    fn the_history_tells_what_was_rolled_out_and_how_long_it_took() {
        let entries = whole().status.unwrap().history;
        assert_eq!(
            history(&entries, now()),
            "\
ID   KIND        IMAGE    DIGEST         OUTCOME     AGE    TOOK   BY         REASON
1    Promotion   v1.1.0   aaaaaaaaaaaa   Succeeded   118m   90s    Operator
"
        );
        assert_eq!(history(&[], now()), "no rollout has ended yet\n");
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_200, "2h"),
            (172_800, "2d"),
            (-5, "0s"),
        ] {
            let then = now() - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(ago(then, now()), text);
        }
    }
}
