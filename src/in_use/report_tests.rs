use serde_json::{Value, json};

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn report() -> Report {
    let uses = Uses {
        digests: [format!("sha256:{HEX}").parse().unwrap()].into(),
        tags: ["v1".parse().unwrap(), HEX.parse().unwrap()].into(),
    };
    Report {
        cluster: "7a1c9a2e-0000-4000-8000-000000000000".parse().unwrap(),
        owner: "prod".into(),
        published: "2026-11-24T10:00:00Z".parse().unwrap(),
        usage: Usage::from([("team-a/web".parse().unwrap(), uses)]),
    }
}

fn value() -> Value {
    serde_json::from_str(&report().encode().unwrap()).unwrap()
}

fn decode(value: &Value) -> Result<Report, ReportError> {
    Report::decode(&report().cluster, value.to_string().as_bytes())
}

#[test]
fn what_is_read_is_what_was_written_and_the_same_report_is_the_same_text() {
    let text = report().encode().unwrap();
    assert_eq!(Report::decode(&report().cluster, text.as_bytes()), Ok(report()));
    assert_eq!(report().encode().unwrap(), text);
    let nothing = Report {
        usage: Usage::new(),
        ..report()
    };
    let text = nothing.encode().unwrap();
    assert_eq!(Report::decode(&nothing.cluster, text.as_bytes()), Ok(nothing));
}

#[test]
fn the_empty_blob_has_the_digest_that_oci_gives_it() {
    assert_eq!(Digest::of(EMPTY_BLOB).as_str(), EMPTY_DIGEST);
}

#[test]
fn annotations_of_others_are_nothing_to_us() {
    let mut value = value();
    value["annotations"]["org.opencontainers.image.created"] = json!("2026-11-24T10:00:00Z");
    assert_eq!(decode(&value), Ok(report()));
}

#[test]
fn a_report_under_the_tag_of_another_cluster_is_refused() {
    let text = report().encode().unwrap();
    let other = "other".parse().unwrap();
    assert!(matches!(
        Report::decode(&other, text.as_bytes()),
        Err(ReportError::OtherTag(_))
    ));
}

#[test]
fn whatever_is_wrong_with_a_report_none_of_it_is_taken() {
    let repository = "dev.ecr-operator.in-use.repository/team-a/web";
    for (key, wrong) in [
        (KEY_VERSION, json!("2")),
        (KEY_VERSION, json!("")),
        (KEY_CLUSTER, json!("a b")),
        (KEY_OWNER, json!("")),
        (KEY_PUBLISHED, json!("yesterday")),
        (repository, json!("")),
        (repository, json!("v1 v1")),
        (repository, json!("v1  v2")),
        (repository, json!(format!("sha256:{}", &HEX[1..]))),
        (repository, json!("sha512:00")),
        (repository, json!(format!("sha256:{HEX} sha256:{HEX}"))),
        (repository, json!("-x")),
        (repository, json!(7)),
        ("dev.ecr-operator.in-use.repository/UPPER", json!("v1")),
        ("dev.ecr-operator.in-use.repository/", json!("v1")),
        ("dev.ecr-operator.in-use.more", json!("v1")),
    ] {
        let mut value = value();
        value["annotations"][key] = wrong.clone();
        assert!(decode(&value).is_err(), "{key} = {wrong}");
    }
    for key in [KEY_VERSION, KEY_CLUSTER, KEY_OWNER, KEY_PUBLISHED] {
        let mut value = value();
        value["annotations"].as_object_mut().unwrap().remove(key);
        assert!(decode(&value).is_err(), "without {key}");
    }
    for (path, wrong) in [
        ("/schemaVersion", json!(1)),
        ("/mediaType", json!("application/vnd.oci.image.index.v1+json")),
        ("/artifactType", json!("application/vnd.ecr-operator.in-use.v2+json")),
        ("/layers", json!([])),
        ("/config/digest", json!(format!("sha256:{HEX}"))),
        ("/annotations", json!([])),
    ] {
        let mut value = value();
        *value.pointer_mut(path).unwrap() = wrong;
        assert!(decode(&value).is_err(), "{path}");
    }
    for text in ["", "{}", "null", "[]", "\u{0}"] {
        assert!(Report::decode(&report().cluster, text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn a_repository_that_comes_twice_makes_the_report_unreadable() {
    let text = report().encode().unwrap();
    let entry = "\"dev.ecr-operator.in-use.repository/team-a/web\":";
    let twice = text.replacen(entry, &format!("{entry}\"v9\",{entry}"), 1);
    let error = Report::decode(&report().cluster, twice.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("comes twice"), "{error}");
}

#[test]
fn a_text_cut_anywhere_is_no_report() {
    let text = report().encode().unwrap();
    for end in 0..text.len() {
        assert!(
            Report::decode(&report().cluster, &text.as_bytes()[..end]).is_err(),
            "{end}"
        );
    }
}

#[test]
fn what_ecr_would_not_take_is_neither_written_nor_read() {
    let digests = (0..60_000_u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
    let uses = Uses {
        digests,
        tags: [].into(),
    };
    let large = Report {
        usage: Usage::from([("big".parse().unwrap(), uses)]),
        ..report()
    };
    assert!(matches!(large.encode(), Err(ReportError::TooLarge(_))));
    let spaces = vec![b' '; LARGEST + 1];
    assert!(matches!(
        Report::decode(&report().cluster, &spaces),
        Err(ReportError::TooLarge(_))
    ));
}

#[test]
fn a_report_is_about_the_registry_that_its_tag_names_and_one_that_names_none_is_about_where_it_is() {
    let key = |account: &str, region: &str| -> RegistryKey { (account.parse().unwrap(), region.parse().unwrap()) };
    let here = key("111122223333", "eu-west-1");
    let of = |tag: &str| cluster_of(&tag.parse().unwrap(), &here).map(|cluster| cluster.to_string());
    for cluster in ["9f1c2b1e-0000-4000-8000-000000000000", "ecs.prod", "ecs"] {
        assert_eq!(of(&tag_in(cluster, &here)).as_deref(), Some(cluster));
        for other in [key("444455556666", "eu-west-1"), key("111122223333", "us-east-1")] {
            assert_eq!(of(&tag_in(cluster, &other)), None, "replication has brought it");
        }
        assert_eq!(of(cluster).as_deref(), Some(cluster));
    }
}
