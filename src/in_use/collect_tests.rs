use serde_json::{Value, json};

use super::*;

const HOST: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";

fn digest(n: u8) -> Digest {
    Digest::from_bytes(&[n; 32])
}

fn by(n: u8) -> String {
    format!("{HOST}/app@{}", digest(n))
}

fn registry() -> RegistryKey {
    ("111122223333".parse().unwrap(), "eu-west-1".parse().unwrap())
}

fn spec(spec: Value) -> Uses {
    let mut collection = Collection::default();
    collection.spec(&serde_json::from_value(spec).unwrap());
    app(&collection)
}

fn status(status: Value) -> Uses {
    let mut collection = Collection::default();
    collection.status(&serde_json::from_value(status).unwrap());
    app(&collection)
}

fn app(collection: &Collection) -> Uses {
    collection
        .of(&registry())
        .remove(&"app".parse().unwrap())
        .unwrap_or_default()
}

#[test]
fn every_kind_of_container_and_image_volumes_count() {
    let uses = spec(json!({
        "containers": [{ "image": by(1) }, { "image": format!("{HOST}/app:v1") }],
        "initContainers": [{ "image": by(2) }],
        "ephemeralContainers": [{ "image": by(3) }],
        "volumes": [{ "image": { "reference": by(4) } }, { "emptyDir": {} }],
    }));
    assert_eq!(uses.digests, [1, 2, 3, 4].map(digest).into());
    assert_eq!(uses.tags, ["v1".parse().unwrap()].into());
}

#[test]
fn templates_count_however_deep_they_lie_and_whether_or_not_they_run() {
    let pod = json!({ "containers": [{ "image": by(1) }] });
    let of = Uses {
        digests: [digest(1)].into(),
        ..Uses::default()
    };
    assert_eq!(spec(json!({ "replicas": 0, "template": { "spec": pod } })), of);
    let job = json!({ "template": { "spec": pod } });
    assert_eq!(spec(json!({ "suspend": true, "jobTemplate": { "spec": job } })), of);
}

#[test]
fn the_digest_that_runs_counts_as_well_as_the_tag_that_was_asked_for() {
    let uses = status(json!({
        "containerStatuses": [{ "image": format!("{HOST}/app:v1"), "imageID": by(1) }],
        "initContainerStatuses": [{ "image": "nginx", "imageID": format!("docker-pullable://{}", by(2)) }],
        "ephemeralContainerStatuses": [{ "imageID": digest(9).to_string() }, {}],
    }));
    assert_eq!(uses.digests, [1, 2].map(digest).into());
    assert_eq!(uses.tags, ["v1".parse().unwrap()].into());
}

#[test]
fn beside_a_digest_a_tag_is_only_a_name_and_without_both_it_is_latest() {
    let uses = spec(json!({ "containers": [
        { "image": format!("{HOST}/app:old@{}", digest(1)) }, { "image": format!("{HOST}/app") },
    ]}));
    assert_eq!(uses.digests, [digest(1)].into());
    assert_eq!(uses.tags, ["latest".parse().unwrap()].into());
}

#[test]
fn one_registry_has_many_hosts_and_images_of_others_are_none_of_ours() {
    let mut collection = Collection::default();
    for image in [
        "nginx".to_owned(),
        "docker.io/library/nginx:1".into(),
        format!("111122223333.dkr-ecr.eu-west-1.on.aws/app@{}", digest(1)),
        format!("444455556666.dkr.ecr.eu-west-1.amazonaws.com/app@{}", digest(2)),
        String::new(),
        format!("{HOST}/APP:v1"),
    ] {
        collection.image(Some(&image));
    }
    assert_eq!(app(&collection).digests, [digest(1)].into());
    assert_eq!(collection.registries.len(), 2);
}

#[test]
fn what_was_seen_of_a_part_keeps_all_that_was_seen_before() {
    let mut earlier = Collection::default();
    earlier.image(Some(&by(1)));
    earlier.image(Some("444455556666.dkr.ecr.eu-west-1.amazonaws.com/web:v1"));
    let mut part = Collection::default();
    part.image(Some(&by(2)));
    part.keep(&earlier);
    assert_eq!(app(&part).digests, [1, 2].map(digest).into());
    assert_eq!(part.registries.len(), 2);
}

#[test]
fn a_promotion_uses_what_it_runs_goes_to_and_may_go_back_to_but_not_what_was_rejected() {
    let image = |n| json!({ "name": "x", "digest": digest(n) });
    let promotion: ImagePromotion = serde_json::from_value(json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ImagePromotion", "metadata": { "name": "app" },
        "spec": { "source": { "repositoryRef": { "name": "app" }, "policy": { "tag": { "name": "v1" } } } },
        "status": {
            "candidate": image(1), "current": image(2), "previous": image(3), "lastGood": image(4), "conditions": [],
            "rejected": [{ "name": "bad", "digest": digest(9), "reason": "bad", "at": "2026-11-24T10:00:00Z", "by": "Request" }],
            "targets": [{ "kind": "Deployment", "name": "app", "via": "Direct", "phase": "Healthy", "digest": digest(5) }],
        },
    }))
    .unwrap();
    let uses = of_promotion(&promotion);
    assert!((1..=5).all(|n| uses.contains(&&digest(n))) && !uses.contains(&&digest(9)));
}
