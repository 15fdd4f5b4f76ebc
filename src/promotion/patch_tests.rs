use serde_json::json;

use super::*;
use crate::promotion::samples::{
    REPOSITORY, container as sample_container, cron_job, deployment, digest, entry, image as of, managers, our_entry,
    promoted,
};

const KIND: TargetKind = TargetKind::Deployment;

/// Promoted, and then its owner removed `app` from what it applies.
fn removed() -> Value {
    let mut object = promoted(&of('a'));
    let owner = json!({ ".": {}, "f:image": {}, "f:name": {} });
    managers(&mut object)[2] = entry("kubectl", "Apply", "2026-11-24T11:50:00Z", &["proxy"], &owner);
    object
}

fn app() -> Vec<String> {
    vec!["app".into()]
}

#[test]
fn an_apply_holds_identity_and_images_and_nothing_else() {
    let body = image(KIND, &deployment(&of('a')), &["app"], &of('b')).unwrap();
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "team-a", "uid": "8de53dd0-1b92-4399-b91e-8528bf598e59", "resourceVersion": "227",
        },
        "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": of('b') }] } } },
    });
    assert_eq!(body, expected);
}

#[test]
fn containers_that_do_not_exist_or_that_only_we_own_are_not_written() {
    assert_eq!(image(KIND, &promoted(&of('a')), &["gone"], &of('b')), None);
    assert_eq!(image(KIND, &removed(), &["app"], &of('b')), None);
    // What we alone own is repeated as it is: to leave it out would take it away.
    let body = image(KIND, &removed(), &["app", "proxy"], &of('b')).unwrap();
    let expected = json!([{ "name": "app", "image": of('a') }, { "name": "proxy", "image": of('b') }]);
    assert_eq!(body["spec"]["template"]["spec"]["containers"], expected);
}

#[test]
fn init_containers_and_cron_jobs_have_their_own_places() {
    let mut object = cron_job(&of('a'));
    object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"] =
        json!([sample_container("migrate", &of('a'))]);
    let pods =
        &mut object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:jobTemplate"]["f:spec"]["f:template"];
    pods["f:spec"]["f:initContainers"] = json!({ "k:{\"name\":\"migrate\"}": { ".": {} } });
    let body = image(TargetKind::CronJob, &object, &["app", "migrate"], &of('b')).unwrap();
    let expected = json!({ "jobTemplate": { "spec": { "template": { "spec": {
        "containers": [{ "name": "app", "image": of('b') }],
        "initContainers": [{ "name": "migrate", "image": of('b') }],
    } } } } });
    assert_eq!((&body["apiVersion"], &body["spec"]), (&json!("batch/v1"), &expected));
}

#[test]
fn an_apply_repeats_what_other_promotions_hold_here() {
    let mut object = promoted(&of('a'));
    managers(&mut object)[0] = our_entry(&["app", "proxy"]);
    let body = image(KIND, &object, &["app"], &of('b')).unwrap();
    let expected = json!([
        { "name": "proxy", "image": "docker.io/library/envoy:v1" },
        { "name": "app", "image": of('b') },
    ]);
    assert_eq!(body["spec"]["template"]["spec"]["containers"], expected);
}

#[test]
fn an_image_that_somebody_else_took_over_is_not_repeated() {
    let mut object = promoted(&of('a'));
    managers(&mut object)[0] = our_entry(&["app", "proxy"]);
    crate::promotion::samples::without_image(&mut object, 0, "proxy");
    let body = image(KIND, &object, &["app"], &of('b')).unwrap();
    let expected = json!([{ "name": "app", "image": of('b') }]);
    assert_eq!(body["spec"]["template"]["spec"]["containers"], expected);
}

#[test]
fn what_its_owner_has_removed_goes_and_the_rest_of_ours_stays() {
    let (body, told) = abandon(KIND, &removed(), &app()).unwrap();
    let Body::Apply(body) = body else {
        panic!("{body:?}");
    };
    assert_eq!(body.get("spec"), None);
    assert_eq!(body["metadata"]["resourceVersion"], "227");
    assert!(told.contains("took container app away"), "{told}");

    let mut object = removed();
    managers(&mut object)[0] = our_entry(&["app", "proxy"]);
    let (body, _) = abandon(KIND, &object, &app()).unwrap();
    let Body::Apply(body) = body else {
        panic!("{body:?}");
    };
    let expected = json!([{ "name": "proxy", "image": "docker.io/library/envoy:v1" }]);
    assert_eq!(body["spec"]["template"]["spec"]["containers"], expected);
}

#[test]
fn a_container_with_settings_of_its_own_was_not_removed_and_stays() {
    let mut object = removed();
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "A", "value": "b" }]);
    let (body, told) = abandon(KIND, &object, &app()).unwrap();
    let Body::Merge(body) = body else {
        panic!("{body:?}");
    };
    assert_eq!(body["metadata"]["managedFields"].as_array().unwrap().len(), 2);
    assert!(told.contains("it stays"), "{told}");

    let mut limited = removed();
    limited["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1" } });
    assert!(matches!(abandon(KIND, &limited, &app()), Some((Body::Merge(_), _))));
}

#[test]
fn where_nobody_owns_any_container_nothing_was_removed() {
    let mut object = removed();
    managers(&mut object).remove(2);
    assert!(matches!(abandon(KIND, &object, &app()), Some((Body::Merge(_), _))));
    assert_eq!(abandon(KIND, &object, &[]), None);
}

#[test]
fn withdrawing_leaves_values_and_the_holds_of_others() {
    let mut object = promoted(&of('a'));
    let annotation = json!({
        "manager": ownership::FIELD_MANAGER, "operation": "Update", "apiVersion": "apps/v1",
        "fieldsV1": { "f:metadata": { "f:annotations": { "f:ecr-operator.dev/rejected-digests": {} } } },
    });
    managers(&mut object).push(annotation.clone());
    let body = withdraw(KIND, &object, &app()).unwrap();
    let metadata = &body["metadata"];
    assert_eq!(
        (&metadata["uid"], &metadata["resourceVersion"]),
        (&object["metadata"]["uid"], &json!("227"))
    );
    let kept = metadata["managedFields"].as_array().unwrap();
    assert_eq!(kept.as_slice(), &managers(&mut object)[1..]);
    assert_eq!(kept.last(), Some(&annotation));
    assert_eq!(body.as_object().unwrap().len(), 1);
}

#[test]
fn withdrawing_one_container_keeps_our_hold_on_another() {
    let mut object = promoted(&of('a'));
    managers(&mut object)[0] = our_entry(&["app", "proxy"]);
    let body = withdraw(KIND, &object, &app()).unwrap();
    assert_eq!(body["metadata"]["managedFields"][0], our_entry(&["proxy"]));
}

#[test]
fn there_is_nothing_to_withdraw_where_we_hold_nothing() {
    assert_eq!(withdraw(KIND, &deployment(&of('a')), &app()), None);
    assert_eq!(withdraw(KIND, &promoted(&of('a')), &["proxy".into()]), None);
    assert_eq!(withdraw(KIND, &json!({}), &app()), None);
}

#[test]
fn rejections_are_written_on_the_workload_as_it_was_seen() {
    let body = rejected(&deployment(&of('a')), &[digest('b'), digest('a')]);
    let expected = json!({ "metadata": {
        "uid": "8de53dd0-1b92-4399-b91e-8528bf598e59", "resourceVersion": "227",
        "annotations": { REJECTED_ANNOTATION: format!("{},{}", digest('b'), digest('a')) },
    } });
    assert_eq!(body, expected);
    let none = rejected(&deployment(&of('a')), &[]);
    assert_eq!(none["metadata"]["annotations"][REJECTED_ANNOTATION], Value::Null);
}

#[test]
fn an_image_by_digest_has_no_tag() {
    assert_eq!(by_digest(REPOSITORY, &digest('a')), of('a'));
    assert_eq!(by_digest(&format!("{REPOSITORY}:v1"), &digest('a')), of('a'));
}
