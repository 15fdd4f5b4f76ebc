use serde_json::json;

use super::*;
use crate::promotion::samples::{REPOSITORY, digest, image};

fn at(key: Option<&str>) -> ViaRef {
    ViaRef {
        name: "apps".into(),
        namespace: None,
        key: key.map(Into::into),
    }
}

fn object(body: &Value) -> Value {
    let mut object = json!({ "metadata": { "namespace": "flux-system", "uid": "u", "resourceVersion": "7" } });
    for (field, value) in body.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn written(via: Via, key: Option<&str>, object: &Value) -> Result<Option<Value>, String> {
    write(via, &at(key), object, REPOSITORY, &digest('b'))
}

/// As the apiserver merges.
fn merged(mut onto: Value, patch: &Value) -> Value {
    let Some(fields) = patch.as_object() else {
        return patch.clone();
    };
    for (field, value) in fields {
        onto[field] = merged(onto[field].take(), value);
    }
    onto
}

/// Writes, checks that what was written is read again and needs no second write, and returns the body without its guard.
fn settled(via: Via, key: Option<&str>, object: &Value) -> Value {
    let mut body = written(via, key, object).unwrap().unwrap();
    assert_eq!(body["metadata"], json!({ "uid": "u", "resourceVersion": "7" }));
    let after = merged(object.clone(), &body);
    assert_eq!(read(via, &at(key), &after, REPOSITORY), Some(digest('b')), "{after}");
    assert_eq!(written(via, key, &after), Ok(None));
    body.as_object_mut().unwrap().remove("metadata");
    body
}

#[test]
fn a_kustomization_gets_one_entry_and_keeps_the_others() {
    let other = json!({ "name": "other", "newTag": "v1" });
    let images = |images: Value| object(&json!({ "spec": { "prune": true, "images": images } }));
    let by_name = json!({ "name": REPOSITORY, "digest": digest('b') });
    assert_eq!(
        settled(Via::FluxKustomization, None, &images(json!([other]))),
        json!({ "spec": { "images": [other, by_name] } })
    );
    let before = json!([{ "name": REPOSITORY, "newTag": "v1", "digest": digest('a') }, other]);
    assert_eq!(
        settled(Via::FluxKustomization, None, &images(before)),
        json!({ "spec": { "images": [by_name, other] } })
    );
    assert_eq!(
        settled(Via::FluxKustomization, Some("web"), &object(&json!({ "spec": {} }))),
        json!({ "spec": { "images": [{ "name": "web", "newName": REPOSITORY, "digest": digest('b') }] } })
    );
}

#[test]
fn an_entry_for_another_repository_is_turned_to_this_one() {
    let other = json!([{ "name": REPOSITORY, "newName": "example.com/mirror", "digest": digest('b') }]);
    let body = settled(
        Via::FluxKustomization,
        None,
        &object(&json!({ "spec": { "images": other } })),
    );
    assert_eq!(body["spec"]["images"][0]["newName"], REPOSITORY);
}

#[test]
fn a_name_that_stands_twice_is_refused_and_not_read() {
    let twice = json!([{ "name": REPOSITORY, "digest": digest('a') }, { "name": REPOSITORY, "digest": digest('b') }]);
    let object = object(&json!({ "spec": { "images": twice } }));
    assert!(
        written(Via::FluxKustomization, None, &object)
            .unwrap_err()
            .contains("more than once")
    );
    assert_eq!(read(Via::FluxKustomization, &at(None), &object, REPOSITORY), None);
}

#[test]
fn a_helm_release_gets_a_post_renderer_and_keeps_the_others() {
    let other = json!({ "kustomize": { "patches": [{ "patch": "x" }] } });
    let release = object(&json!({ "spec": { "postRenderers": [other] } }));
    let ours = json!({ "kustomize": { "images": [{ "name": REPOSITORY, "digest": digest('b') }] } });
    let body = settled(Via::FluxHelmRelease, None, &release);
    assert_eq!(body, json!({ "spec": { "postRenderers": [other, ours] } }));

    let before = json!({ "kustomize": { "images": [{ "name": REPOSITORY, "digest": digest('a') }, { "name": "x" }] } });
    let release = object(&json!({ "spec": { "postRenderers": [before, other] } }));
    assert_eq!(
        read(Via::FluxHelmRelease, &at(None), &release, REPOSITORY),
        Some(digest('a'))
    );
    let body = settled(Via::FluxHelmRelease, None, &release);
    let images = &body["spec"]["postRenderers"][0]["kustomize"]["images"];
    assert_eq!(
        images,
        &json!([{ "name": REPOSITORY, "digest": digest('b') }, { "name": "x" }])
    );
    assert_eq!(body["spec"]["postRenderers"][1], other);
}

#[test]
fn an_application_with_kustomize_gets_an_image_override() {
    let application = |images: Value| object(&json!({ "spec": { "source": { "kustomize": { "images": images } } } }));
    let images = |body: &Value| body["spec"]["source"]["kustomize"]["images"].clone();
    let before = application(json!(["other:v1", format!("{REPOSITORY}:v1")]));
    assert_eq!(
        images(&settled(Via::ArgoApplication, None, &before)),
        json!(["other:v1", image('b')])
    );
    let before = application(json!(["web=example.com/mirror:v1"]));
    let body = settled(Via::ArgoApplication, Some("web"), &before);
    assert_eq!(images(&body), json!([format!("web={}", image('b'))]));
    let empty = object(&json!({ "spec": { "source": { "path": "." } } }));
    assert_eq!(
        images(&settled(Via::ArgoApplication, None, &empty)),
        json!([image('b')])
    );
}

#[test]
fn an_application_with_helm_gets_a_parameter_of_the_right_form() {
    let other = json!({ "name": "replicas", "value": "2" });
    let application = object(&json!({ "spec": { "source": { "helm": { "parameters": [other] } } } }));
    let parameters = |key| settled(Via::ArgoApplication, Some(key), &application)["spec"]["source"]["helm"].take();
    assert_eq!(
        parameters("helm:image.digest"),
        json!({ "parameters": [other, { "name": "image.digest", "value": digest('b') }] })
    );
    assert_eq!(
        parameters("helm:image"),
        json!({ "parameters": [other, { "name": "image", "value": image('b') }] })
    );
    let refused = written(Via::ArgoApplication, Some("helm:image.tag"), &application).unwrap_err();
    assert!(refused.contains("names a tag"), "{refused}");
}

#[test]
fn an_application_is_given_only_what_its_tool_takes() {
    let refused = |found: &str, key: Option<&str>| {
        let mut application = object(&json!({ "spec": { "source": { "path": "." } } }));
        application["status"]["sourceType"] = found.into();
        written(Via::ArgoApplication, key, &application).unwrap_err()
    };
    assert!(refused("Helm", None).contains("helm:<parameter>"));
    assert!(refused("Kustomize", Some("helm:image")).contains("name of the image"));
    for key in [None, Some("helm:image")] {
        assert!(refused("Directory", key).contains("neither"));
    }
}

#[test]
fn an_application_of_several_sources_is_refused() {
    let application = object(&json!({ "spec": { "sources": [{ "chart": "a" }, { "path": "b" }] } }));
    for key in [None, Some("helm:image")] {
        let refused = written(Via::ArgoApplication, key, &application).unwrap_err();
        assert!(refused.contains("several sources"), "{refused}");
    }
}

#[test]
fn a_config_map_holds_the_image_or_the_digest_by_the_name_of_its_key() {
    let map = object(&json!({ "data": { "other": "x" } }));
    assert_eq!(
        settled(Via::ConfigMap, None, &map),
        json!({ "data": { "image": image('b') } })
    );
    let body = settled(Via::ConfigMap, Some("webDigest"), &map);
    assert_eq!(body, json!({ "data": { "webDigest": digest('b') } }));
    let empty = object(&json!({}));
    settled(Via::ConfigMap, None, &empty);
    let fixed = object(&json!({ "immutable": true, "data": {} }));
    assert!(written(Via::ConfigMap, None, &fixed).unwrap_err().contains("immutable"));
}

#[test]
fn what_is_no_digest_is_not_read() {
    let read_data = |value: Value| {
        read(
            Via::ConfigMap,
            &at(None),
            &object(&json!({ "data": { "image": value } })),
            REPOSITORY,
        )
    };
    assert_eq!(read_data("web:v1".into()), None);
    assert_eq!(read_data(json!(["sha256:"])), None);
    assert_eq!(read_data(digest('a').as_str().into()), Some(digest('a')));
    for via in [
        Via::FluxKustomization,
        Via::FluxHelmRelease,
        Via::ArgoApplication,
        Via::ConfigMap,
    ] {
        for object in [
            json!({}),
            json!(null),
            json!({ "spec": { "images": 1, "postRenderers": "x", "source": [] } }),
        ] {
            assert_eq!(read(via, &at(None), &object, REPOSITORY), None);
        }
    }
}

#[test]
fn the_workload_itself_and_publish_have_no_other_object() {
    for via in [Via::Auto, Via::Direct, Via::Publish] {
        assert_eq!(object_kind(via), None);
        assert!(written(via, None, &object(&json!({}))).is_err());
    }
    assert_eq!(object_kind(Via::FluxHelmRelease).unwrap().kind, "HelmRelease");
}

#[test]
fn another_namespace_must_be_named_exactly() {
    let named = |list: &str| {
        let mut object = object(&json!({}));
        object["metadata"]["annotations"] = json!({ PROMOTABLE_FROM_ANNOTATION: list });
        permits(&object, "team-a")
    };
    assert!(named("team-a"));
    assert!(named("team-b, team-a"));
    for list in ["", "*", "team", "team-ab", "team-a/x", "TEAM-A", "team-b;team-a"] {
        assert!(!named(list), "{list}");
    }
    assert!(!permits(&object(&json!({})), "team-a"));
    assert!(permits(&object(&json!({})), "flux-system"));
    assert!(!permits(&json!({}), ""));
}
