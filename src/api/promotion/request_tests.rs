use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn asked(name: &str, value: &str) -> Result<Request, String> {
    let annotations = [(annotation(name), value.to_owned())].into();
    let mut all = requests(&annotations, &BTreeMap::new());
    assert_eq!(all.len(), 1, "{name}: {value:?}");
    all.remove(0).2
}

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

#[test]
fn each_request_is_understood_with_and_without_what_may_be_left_out() {
    let reason = || "it burns".to_owned();
    for (name, value, request) in [
        (
            "approve",
            format!("{DIGEST} system:serviceaccount:a:b"),
            Request::Approve {
                digest: digest(),
                by: "system:serviceaccount:a:b".into(),
            },
        ),
        (
            "approve",
            format!("{DIGEST} Jane Doe"),
            Request::Approve {
                digest: digest(),
                by: "Jane Doe".into(),
            },
        ),
        (
            "promote",
            "t1".into(),
            Request::Promote {
                image: None,
                reason: String::new(),
            },
        ),
        (
            "promote",
            "t1 - it burns".into(),
            Request::Promote {
                image: None,
                reason: reason(),
            },
        ),
        (
            "promote",
            "t1 v1.2.0 it burns".into(),
            Request::Promote {
                image: Some(DigestOrTag::Tag("v1.2.0".parse().unwrap())),
                reason: reason(),
            },
        ),
        (
            "promote",
            format!("t1 {DIGEST}"),
            Request::Promote {
                image: Some(DigestOrTag::Digest(digest())),
                reason: String::new(),
            },
        ),
        (
            "rollback",
            " t1  it burns ".into(),
            Request::Rollback {
                digest: None,
                reason: reason(),
            },
        ),
        (
            "rollback",
            format!("t1 {DIGEST} it burns"),
            Request::Rollback {
                digest: Some(digest()),
                reason: reason(),
            },
        ),
        (
            "pin",
            "t1".into(),
            Request::Pin {
                digest: None,
                reason: String::new(),
            },
        ),
        (
            "reject",
            format!("t1 {DIGEST} it burns"),
            Request::Reject {
                digest: digest(),
                reason: reason(),
            },
        ),
        ("resume", "t1".into(), Request::Resume),
    ] {
        assert_eq!(asked(name, &value), Ok(request), "{name}: {value}");
    }
}

#[test]
fn what_is_not_understood_is_answered_with_what_to_write() {
    for (name, value, sentence) in [
        ("approve", String::new(), "the digest is missing"),
        ("approve", format!("{DIGEST}  jane"), "spaces around the name"),
        ("promote", String::new(), "it is empty"),
        ("approve", DIGEST.to_owned(), "name of the user"),
        ("approve", "v1.2.0 jane".to_owned(), "is not an image digest"),
        (
            "approve",
            format!("{} jane", DIGEST.to_uppercase()),
            "is not an image digest",
        ),
        ("promote", "t1 sha256:12".to_owned(), "is not an image digest"),
        ("promote", "t1 -x".to_owned(), "neither a digest nor a tag"),
        ("rollback", "t1 sha256:12".to_owned(), "is not an image digest"),
        ("reject", "t1".to_owned(), "the digest is missing"),
        ("reject", "t1 v1".to_owned(), "is not an image digest"),
        ("resume", "t1 t2".to_owned(), "something follows"),
        ("resume", " ".to_owned(), "it is empty"),
        ("pin", "x".repeat(65), "more than 64 characters"),
    ] {
        let error = asked(name, &value).unwrap_err();
        assert!(error.contains(sentence), "{name}: {value}: {error}");
        assert!(error.contains(grammar(name)), "{error}");
    }
}

#[test]
fn hostile_values_are_answered_in_few_words() {
    for name in REQUESTS {
        for value in [
            "x".repeat(300_000),
            format!("{DIGEST} a\nb"),
            "\u{0}".to_owned(),
            "\u{7f}\u{1b}[2J".to_owned(),
            "ä".repeat(513),
        ] {
            let error = asked(name, &value).unwrap_err();
            assert!(error.chars().count() < 400, "{error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }
    assert!(asked("rollback", &format!("t1 {}", "ä".repeat(509))).is_ok());
}

#[test]
fn what_was_handled_is_not_asked_for_again_even_if_it_is_too_long_to_be_kept() {
    let long = "x".repeat(5_000);
    let annotations: BTreeMap<_, _> = [
        (annotation("resume"), "t1".to_owned()),
        (annotation("pin"), long),
        ("ecr-operator.dev/reconcile".to_owned(), "t1".to_owned()),
        ("other.example/promote".to_owned(), "t1".to_owned()),
    ]
    .into();
    let first = requests(&annotations, &BTreeMap::new());
    let names: Vec<_> = first.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["pin", "resume"]);
    assert!(first.iter().all(|(_, value, _)| value.chars().count() <= LONGEST));
    let handled: BTreeMap<_, _> = first
        .into_iter()
        .map(|(name, value, _)| (name.to_owned(), value))
        .collect();
    assert_eq!(requests(&annotations, &handled), []);
    let newer = [(annotation("resume"), "t2".to_owned())].into();
    assert_eq!(
        requests(&newer, &handled),
        [("resume", "t2".to_owned(), Ok(Request::Resume))]
    );
}

#[test]
fn a_value_says_what_was_meant_or_is_not_made() {
    let reason = "it burns".to_owned();
    let none = String::new;
    for request in [
        Request::Approve {
            digest: digest(),
            by: "Jane Doe".into(),
        },
        Request::Promote {
            image: None,
            reason: reason.clone(),
        },
        Request::Promote {
            image: Some(DigestOrTag::Tag("v1".parse().unwrap())),
            reason: none(),
        },
        Request::Rollback {
            digest: None,
            reason: none(),
        },
        Request::Pin {
            digest: Some(digest()),
            reason: reason.clone(),
        },
        Request::Reject {
            digest: digest(),
            reason,
        },
        Request::Resume,
    ] {
        let value = request.value("t1").unwrap();
        assert_eq!(asked(request.name(), &value), Ok(request), "{value}");
    }
    for reason in [format!("{DIGEST} burns"), "a\nb".to_owned(), "x".repeat(512)] {
        let pin = Request::Pin { digest: None, reason };
        assert!(pin.value("t1").is_err(), "{pin:?}");
    }
}
