//! The Job of a verification: what its author wrote, and what the promotion adds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::promotion::{ImageStatus, JobVerification};

/// How long a Job is kept after it has ended, where its spec does not say.
const KEPT_SECONDS: u64 = 3_600;

/// The least time that it is kept: one that is gone before its end was seen would be run again.
const LEAST_KEPT_SECONDS: u64 = 600;

/// The spec of the Job: it ends within `timeout`, since nobody waits any longer, and its containers are told which image
/// they verify. What is no valid spec is left for the apiserver to refuse.
pub(crate) fn spec(job: &JobVerification, timeout: Duration, image_text: &str, image: &ImageStatus) -> Value {
    let mut spec = Value::Object(job.spec.clone());
    let kept = spec["ttlSecondsAfterFinished"].as_u64().unwrap_or(KEPT_SECONDS);
    spec["ttlSecondsAfterFinished"] = json!(kept.max(LEAST_KEPT_SECONDS));
    let longest = timeout.as_secs().max(1);
    let active = spec["activeDeadlineSeconds"].as_u64().unwrap_or(longest);
    spec["activeDeadlineSeconds"] = json!(active.min(longest));
    let told = [
        json!({ "name": "ECR_OPERATOR_IMAGE", "value": image_text }),
        json!({ "name": "ECR_OPERATOR_DIGEST", "value": image.digest }),
        json!({ "name": "ECR_OPERATOR_TAG", "value": image.tag }),
    ];
    for list in ["initContainers", "containers"] {
        let containers = spec
            .pointer_mut(&format!("/template/spec/{list}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let mut env = container
                .get("env")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            env.extend(told.clone());
            container.insert("env".into(), Value::Array(env));
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::names::Digest, promotion::ledger::nameless};

    /// The spec that becomes of this one.
    fn of(spec: &Value) -> Value {
        let job: JobVerification = serde_json::from_value(json!({ "spec": spec })).unwrap();
        let image = ImageStatus {
            tag: Some("1.0.0".parse().unwrap()),
            ..nameless(Digest::of(b"image"))
        };
        super::spec(&job, Duration::from_mins(2), "host/web@sha256:1", &image)
    }

    #[test]
    fn every_container_is_told_the_image_after_what_it_has() {
        let own = json!({ "name": "MINE", "value": "kept" });
        let spec = of(&json!({ "template": { "spec": {
            "initContainers": [{ "name": "wait" }],
            "containers": [{ "name": "check", "env": [own] }],
        } } }));
        let told = json!([
            { "name": "ECR_OPERATOR_IMAGE", "value": "host/web@sha256:1" },
            { "name": "ECR_OPERATOR_DIGEST", "value": Digest::of(b"image") },
            { "name": "ECR_OPERATOR_TAG", "value": "1.0.0" },
        ]);
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["initContainers"][0]["env"], told);
        let env = pod["containers"][0]["env"].as_array().unwrap();
        assert_eq!((&env[0], &env[1..]), (&own, told.as_array().unwrap().as_slice()));
    }

    #[test]
    fn it_ends_while_somebody_waits_and_stays_until_its_end_is_seen() {
        let times = |spec: &Value| {
            let spec = of(spec);
            [
                spec["ttlSecondsAfterFinished"].clone(),
                spec["activeDeadlineSeconds"].clone(),
            ]
        };
        assert_eq!(times(&json!({})), [json!(3_600), json!(120)]);
        assert_eq!(
            times(&json!({ "ttlSecondsAfterFinished": 0, "activeDeadlineSeconds": 86_400 })),
            [json!(600), json!(120)]
        );
        assert_eq!(
            times(&json!({ "ttlSecondsAfterFinished": 7_200, "activeDeadlineSeconds": 30 })),
            [json!(7_200), json!(30)]
        );
    }

    #[test]
    fn what_is_no_job_is_left_as_it_is() {
        for containers in [json!(["x", 1, null]), json!("x"), json!({})] {
            let spec = of(&json!({ "template": { "spec": { "containers": containers } } }));
            assert_eq!(spec["template"]["spec"]["containers"], containers);
        }
        for template in [json!("x"), json!([]), Value::Null] {
            assert_eq!(of(&json!({ "template": template }))["template"], template);
        }
        let odd = of(&json!({ "template": { "spec": { "containers": [{ "env": "x" }] } } }));
        assert_eq!(
            odd["template"]["spec"]["containers"][0]["env"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
    }
}
