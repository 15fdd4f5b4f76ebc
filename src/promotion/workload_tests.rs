use serde_json::{Value, json};

use super::*;
use crate::promotion::{
    facts::{Health, Writer},
    samples::{
        REPOSITORY, container as sample_container, cron_job, deployment, digest, entry, image, managers, our_entry,
        promoted, repositories, target, without_image,
    },
};

fn look(overlay: &Value, object: &Value) -> Found {
    read(&target(overlay), object, &[], &repositories(), Limits::default())
}

fn person(manager: &str) -> Writer {
    Writer {
        manager: manager.into(),
        is_person: true,
    }
}

fn tool(manager: &str) -> Writer {
    Writer {
        manager: manager.into(),
        is_person: false,
    }
}

#[test]
fn a_star_means_the_containers_that_run_an_image_of_the_repository() {
    let found = look(&json!({}), &deployment(&image('a')));
    assert_eq!(found.digest, Some(digest('a')));
    assert_eq!(found.images, [image('a')]);
    assert_eq!(found.health, Health::Healthy);
    assert_eq!((found.missing, found.refused, found.rejected), (vec![], None, vec![]));
    assert_eq!(found.resource_version, "227");
}

#[test]
fn a_star_that_finds_nothing_is_missing() {
    let found = look(&json!({}), &deployment("docker.io/library/nginx:1"));
    assert_eq!((found.digest, found.missing), (None, vec!["*".to_owned()]));
}

#[test]
fn a_named_container_of_another_image_is_selected_and_has_no_digest_of_ours() {
    let other = format!("docker.io/library/nginx@{}", digest('a'));
    let found = look(&json!({ "containers": ["app"] }), &deployment(&other));
    assert_eq!((found.digest, found.images, found.missing), (None, vec![other], vec![]));
}

#[test]
fn containers_that_differ_or_have_a_tag_alone_have_no_digest() {
    let tagged = look(&json!({}), &deployment(&format!("{REPOSITORY}:v1")));
    assert_eq!((tagged.digest, tagged.images), (None, vec![format!("{REPOSITORY}:v1")]));
    let with_tag = format!("{REPOSITORY}:v1@{}", digest('a'));
    assert_eq!(look(&json!({}), &deployment(&with_tag)).digest, Some(digest('a')));

    let mut object = deployment(&image('a'));
    object["spec"]["template"]["spec"]["containers"][1]["image"] = image('b').into();
    assert_eq!(look(&json!({}), &object).digest, None);
    object["spec"]["template"]["spec"]["containers"][1]["image"] = image('a').into();
    assert_eq!(look(&json!({}), &object).digest, Some(digest('a')));
}

#[test]
fn names_of_images_are_told_from_ports_tags_and_digests() {
    assert_eq!(name_of("localhost:5000/a/b"), "localhost:5000/a/b");
    assert_eq!(name_of("localhost:5000/a/b:v1"), "localhost:5000/a/b");
    assert_eq!(
        name_of(&format!("localhost:5000/a/b:v1@{}", digest('a'))),
        "localhost:5000/a/b"
    );
    assert_eq!(name_of("nginx"), "nginx");
    assert_eq!(digest_of("nginx@sha256:abc"), None);
}

#[test]
fn init_containers_are_selected_where_they_are_named() {
    let mut object = deployment(&image('a'));
    object["spec"]["template"]["spec"]["initContainers"] = json!([sample_container("migrate", &image('b'))]);
    assert_eq!(look(&json!({}), &object).digest, Some(digest('a')));
    let both = look(&json!({ "initContainers": ["*"] }), &object);
    assert_eq!((both.digest, both.images.len()), (None, 2));
    let wrong_list = look(
        &json!({ "containers": ["migrate", "gone"], "initContainers": ["app"] }),
        &object,
    );
    assert_eq!(wrong_list.missing, ["migrate", "gone", "app"]);
}

#[test]
fn the_writer_is_who_owns_the_image_and_is_not_us() {
    assert_eq!(
        look(&json!({}), &deployment(&image('a'))).writer,
        Some(tool("kubectl-client-side-apply"))
    );
    assert_eq!(look(&json!({}), &promoted(&image('a'))).writer, None);
    // The other container's image is still its owner's.
    let both = look(&json!({ "containers": ["app", "proxy"] }), &promoted(&image('a')));
    assert_eq!(both.writer, Some(tool("kubectl-client-side-apply")));
}

#[test]
fn people_are_told_from_tools_by_manager_and_operation() {
    let after = |manager: &str, operation: &str| {
        let mut object = promoted(&image('a'));
        without_image(&mut object, 0, "app");
        let fields = json!({ "f:image": {} });
        managers(&mut object).push(entry(manager, operation, "2026-11-24T11:48:00Z", &["app"], &fields));
        look(&json!({}), &object).writer
    };
    for manager in [
        "kubectl-set",
        "kubectl-edit",
        "kubectl-patch",
        "kubectl-replace",
        "kubectl",
        "k9s",
        "Mozilla",
    ] {
        assert_eq!(after(manager, "Update"), Some(person(manager)));
    }
    for manager in [
        "kubectl-client-side-apply",
        "kubectl-create",
        "argocd-controller",
        "node-fetch",
        "kubectlish",
    ] {
        assert_eq!(after(manager, "Update"), Some(tool(manager)));
    }
    // `kubectl apply --server-side`.
    assert_eq!(after("kubectl", "Apply"), Some(tool("kubectl")));
    let long = "x".repeat(500);
    assert_eq!(after(&long, "Update").unwrap().manager.len(), 128);
}

#[test]
fn the_last_of_several_writers_counts() {
    let mut object = deployment(&image('a'));
    let fields = json!({ "f:image": {} });
    let write = |manager: &str, time: &str, container: &str| entry(manager, "Update", time, &[container], &fields);
    managers(&mut object).insert(0, write("kubectl-edit", "2026-11-24T11:49:00Z", "app"));
    managers(&mut object).push(write("kubectl-set", "2026-11-24T11:48:00Z", "app"));
    managers(&mut object).push(write("kubectl-patch", "2026-11-24T11:50:00Z", "proxy"));
    assert_eq!(
        look(&json!({ "containers": ["app"] }), &object).writer,
        Some(person("kubectl-edit"))
    );
}

#[test]
fn a_cron_job_is_read_at_its_own_path() {
    let found = look(&json!({ "kind": "CronJob" }), &cron_job(&image('a')));
    assert_eq!(
        (found.digest, found.health, found.restarts),
        (Some(digest('a')), Health::Healthy, 0)
    );
    assert_eq!(found.writer, Some(person("kubectl-set")));
}

#[test]
fn a_container_is_abandoned_once_we_alone_own_it() {
    let mut object = promoted(&image('a'));
    assert_eq!(look(&json!({}), &object).abandoned, Vec::<String>::new());
    let owner = json!({ ".": {}, "f:image": {}, "f:name": {} });
    managers(&mut object)[2] = entry("kubectl", "Apply", "2026-11-24T11:50:00Z", &["proxy"], &owner);
    assert_eq!(look(&json!({}), &object).abandoned, ["app"]);
    assert!(!selected(&target(&json!({})), &object, &repositories())[0].owned);

    // Gone from the workload too, it is nobody's business.
    object["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    assert_eq!(look(&json!({}), &object).abandoned, Vec::<String>::new());
}

#[test]
fn without_any_record_of_managers_somebody_owns_the_containers() {
    let mut object = deployment(&image('a'));
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert!(selected(&target(&json!({})), &object, &repositories())[0].owned);
    object["metadata"]["managedFields"] = json!([our_entry(&["app"])]);
    assert!(!selected(&target(&json!({})), &object, &repositories())[0].owned);
}

#[test]
fn rejected_digests_are_read_whatever_else_is_written_there() {
    let mut object = deployment(&image('a'));
    let list = format!(
        "{}, {},,sha256:short,<script>,{}",
        digest('c'),
        digest('b'),
        digest('c')
    );
    object["metadata"]["annotations"] = json!({ REJECTED_ANNOTATION: list });
    assert_eq!(look(&json!({}), &object).rejected, [digest('c'), digest('b')]);

    let many: Vec<String> = (0..5_000).map(|n| format!("sha256:{n:064x}")).collect();
    object["metadata"]["annotations"][REJECTED_ANNOTATION] = many.join(",").into();
    assert_eq!(look(&json!({}), &object).rejected.len(), MOST_REJECTED);
}

#[test]
fn objects_of_any_other_shape_are_read_without_harm() {
    for object in [
        json!({}),
        json!([]),
        json!(null),
        json!({ "metadata": 1, "spec": { "template": { "spec": [] } } }),
    ] {
        let found = look(&json!({ "containers": ["app", "*"] }), &object);
        assert_eq!((found.digest, found.missing.len()), (None, 2));
        assert_ne!(found.health, Health::Failed(String::new()));
    }
    let mut object = deployment(&image('a'));
    object["metadata"]["managedFields"] = json!([1, { "manager": 2, "fieldsV1": { "f:spec": "no" } }, our_entry(&[])]);
    assert_eq!(look(&json!({}), &object).writer, None);
    let long = format!("{REPOSITORY}:{}", "x".repeat(5_000));
    let found = look(&json!({}), &deployment(&long));
    assert_eq!(found.images[0].chars().count(), IMAGE_LENGTH);
}

#[test]
fn only_auto_refuses_a_workload_of_a_tool() {
    let mut object = deployment(&image('a'));
    object["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    assert!(look(&json!({}), &object).refused.is_some());
    assert_eq!(look(&json!({ "via": "Direct" }), &object).refused, None);
    assert_eq!(look(&json!({}), &deployment(&image('a'))).refused, None);
}
