//! From JSON to a [`Policy`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::error::{Fault, Place, PolicyError};
use super::principal::{Kind, NamedPrincipal, Principals, has_wildcard, named};
use super::{Actions, Effect, Policy, Resources, Statement, Version};

/// Where a document comes from, which decides how strictly it is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// ECR has it, so ECR took it.
    Stored,
    /// A manifest has it, and its author can mend it.
    Declared,
}

/// What a policy is set on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Its statements name no resource.
    Repository,
    /// Its statements name repositories, and share the document with those of others.
    Registry,
}

/// The longest Sid of a statement that shares a registry's policy: it is recorded in a status.
const SID: usize = 128;

pub(super) fn policy(value: &Value, origin: Origin, subject: Subject) -> Result<Policy, PolicyError> {
    let document = value.as_object().ok_or(PolicyError::NotAnObject)?;
    if let Some(key) = document
        .keys()
        .find(|key| !matches!(key.as_str(), "Version" | "Id" | "Statement"))
    {
        return Err(PolicyError::UnknownKey(key.clone()));
    }
    let version = match document.get("Version") {
        None => Version::V2008,
        Some(Value::String(text)) if text == Version::V2008.as_str() => Version::V2008,
        Some(Value::String(text)) if text == Version::V2012.as_str() => Version::V2012,
        Some(other) => return Err(PolicyError::Version(other.to_string())),
    };
    let id = match document.get("Id") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(PolicyError::Id),
    };
    let statements = match document.get("Statement").ok_or(PolicyError::NoStatement)? {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if statements.is_empty() {
        return Err(PolicyError::EmptyStatement);
    }
    let statements = statements.iter().zip(1..).map(|(value, number)| {
        statement(value, origin, subject).map_err(|fault| {
            let sid = value
                .get("Sid")
                .and_then(Value::as_str)
                .filter(|sid| !sid.is_empty())
                .map(str::to_owned);
            PolicyError::Statement {
                place: Place { number, sid },
                fault,
            }
        })
    });
    let statements = statements.collect::<Result<Vec<_>, _>>()?;
    if origin == Origin::Declared {
        unique_sids(&statements)?;
    }
    Ok(Policy {
        id,
        version,
        statements,
    })
}

fn unique_sids(statements: &[Statement]) -> Result<(), PolicyError> {
    let mut seen = BTreeMap::new();
    for (statement, second) in statements.iter().zip(1..) {
        let Some(sid) = statement.sid() else { continue };
        if let Some(first) = seen.insert(sid, second) {
            return Err(PolicyError::DuplicateSid {
                sid: sid.to_owned(),
                first,
                second,
            });
        }
    }
    Ok(())
}

fn statement(value: &Value, origin: Origin, subject: Subject) -> Result<Statement, Fault> {
    let object = value.as_object().ok_or(Fault::NotAnObject)?;
    for key in object.keys() {
        match key.as_str() {
            "Sid" | "Effect" | "Principal" | "NotPrincipal" | "Action" | "NotAction" | "Condition" => {}
            "Resource" | "NotResource" if subject == Subject::Registry => {}
            "Resource" | "NotResource" => return Err(Fault::Resource(key.clone())),
            _ => return Err(Fault::UnknownKey(key.clone())),
        }
    }
    let effect = match object.get("Effect") {
        None => return Err(Fault::NoEffect),
        Some(Value::String(effect)) if effect == "Allow" => Effect::Allow,
        Some(Value::String(effect)) if effect == "Deny" => Effect::Deny,
        Some(other) => return Err(Fault::Effect(other.to_string())),
    };
    let sid = sid(object, origin)?;
    if (origin, subject) == (Origin::Declared, Subject::Registry) {
        match &sid {
            None => return Err(Fault::NoSid),
            Some(sid) if sid.len() > SID => return Err(Fault::SidLength(SID)),
            Some(_) => {}
        }
    }
    let resources = match subject {
        Subject::Repository => None,
        Subject::Registry => resources(object, origin)?,
    };
    Ok(Statement {
        sid,
        resources,
        effect,
        principals: principals(object, origin)?,
        actions: actions(object)?,
        condition: object.get("Condition").map(condition).transpose()?.unwrap_or_default(),
    })
}

/// An empty Sid, which IAM itself writes into trust policies, is none.
fn sid(object: &Map<String, Value>, origin: Origin) -> Result<Option<String>, Fault> {
    match object.get("Sid") {
        None => Ok(None),
        Some(Value::String(sid)) if sid.is_empty() => Ok(None),
        Some(Value::String(sid))
            if origin == Origin::Stored || sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            Ok(Some(sid.clone()))
        }
        Some(Value::String(_)) => Err(Fault::SidCharacters),
        Some(_) => Err(Fault::Sid),
    }
}

fn principals(object: &Map<String, Value>, origin: Origin) -> Result<Principals, Fault> {
    let (negated, key, value) = match (object.get("Principal"), object.get("NotPrincipal")) {
        (None, None) => return Err(Fault::NoPrincipal),
        (Some(_), Some(_)) => return Err(Fault::BothPrincipals),
        (Some(value), None) => (false, "Principal", value),
        (None, Some(value)) => (true, "NotPrincipal", value),
    };
    let kinds = match value {
        Value::String(star) if star == "*" => {
            return Ok(Principals {
                negated,
                bare: true,
                entries: vec![(Kind::Aws, star.clone())],
            });
        }
        Value::Object(kinds) if !kinds.is_empty() => kinds,
        _ => return Err(Fault::PrincipalShape(key)),
    };
    let mut entries = Vec::new();
    for (kind, names) in kinds {
        let kind = Kind::of(kind).ok_or_else(|| Fault::PrincipalKind(kind.clone()))?;
        for name in texts(names, &format!("{key}.{}", kind.key()))? {
            if origin == Origin::Declared {
                if name != "*" && has_wildcard(&name) {
                    return Err(Fault::PrincipalWildcard(name));
                }
                if matches!(named(kind, &name), NamedPrincipal::Unrecognized(_)) {
                    return Err(Fault::PrincipalForm(name));
                }
            }
            entries.push((kind, name));
        }
    }
    Ok(Principals {
        negated,
        bare: false,
        entries,
    })
}

fn actions(object: &Map<String, Value>) -> Result<Actions, Fault> {
    let (negated, key, value) = match (object.get("Action"), object.get("NotAction")) {
        (None, None) => return Err(Fault::NoAction),
        (Some(_), Some(_)) => return Err(Fault::BothActions),
        (Some(value), None) => (false, "Action", value),
        (None, Some(value)) => (true, "NotAction", value),
    };
    let names = texts(value, key)?;
    match names.iter().find(|name| !is_action(name)) {
        Some(name) => Err(Fault::ActionForm(name.clone())),
        None => Ok(Actions { negated, names }),
    }
}

/// ECR refuses a statement without any; one that it has nevertheless says what it says.
fn resources(object: &Map<String, Value>, origin: Origin) -> Result<Option<Resources>, Fault> {
    let (negated, key, value) = match (object.get("Resource"), object.get("NotResource")) {
        (None, None) if origin == Origin::Stored => return Ok(None),
        (None, None) => return Err(Fault::NoResource),
        (Some(_), Some(_)) => return Err(Fault::BothResources),
        (Some(value), None) => (false, "Resource", value),
        (None, Some(value)) => (true, "NotResource", value),
    };
    let names = texts(value, key)?;
    Ok(Some(Resources { negated, names }))
}

/// `*` or `service:Action`, where the action may be a pattern ("IAM JSON policy elements: Action").
fn is_action(text: &str) -> bool {
    let service =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let action = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'?'))
    };
    text == "*"
        || text
            .split_once(':')
            .is_some_and(|(before, after)| service(before) && action(after))
}

/// A map of operator to a map of key to a value or values ("IAM JSON policy elements: Condition").
fn condition(value: &Value) -> Result<BTreeMap<String, BTreeMap<String, Vec<String>>>, Fault> {
    let object = value
        .as_object()
        .ok_or_else(|| Fault::ConditionShape("Condition".into()))?;
    once(object, "")?;
    let operators = object.iter().map(|(operator, keys)| {
        let keys = keys
            .as_object()
            .ok_or_else(|| Fault::ConditionShape(format!("Condition {operator:?}")))?;
        once(keys, &format!("{operator}."))?;
        let keys = keys
            .iter()
            .map(|(key, values)| Ok((key.clone(), scalars(values, &format!("{operator}.{key}"))?)));
        Ok((operator.clone(), keys.collect::<Result<_, Fault>>()?))
    });
    operators.collect()
}

/// Case does not count in operators and keys, so one written twice in different case has no certain meaning.
fn once(object: &Map<String, Value>, within: &str) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    match object.keys().find(|key| !seen.insert(key.to_ascii_lowercase())) {
        Some(key) => Err(Fault::ConditionTwice(format!("{within}{key}"))),
        None => Ok(()),
    }
}

fn scalars(value: &Value, place: &str) -> Result<Vec<String>, Fault> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Fault::ConditionValue(place.into())),
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(Fault::EmptyList(format!("Condition {place}"))),
        Value::Array(list) => list.iter().map(scalar).collect(),
        one => Ok(vec![scalar(one)?]),
    }
}

fn texts(value: &Value, place: &str) -> Result<Vec<String>, Fault> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Fault::NotText(place.into()))
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(Fault::EmptyList(place.into())),
        Value::Array(list) => list.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::document::policy::MAX_CHARACTERS;

    /// The error of a manifest, as its author reads it.
    fn refused(value: &Value) -> String {
        Policy::from_value(value).expect_err(&value.to_string()).to_string()
    }

    /// The usual statement with some keys set anew, or taken out by null.
    fn statement(keys: &Value) -> Value {
        let mut statement =
            json!({"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "ecr:BatchGetImage"});
        for (key, value) in keys.as_object().expect("keys") {
            statement[key] = value.clone();
        }
        let object = statement.as_object_mut().expect("an object");
        object.retain(|_, value| !value.is_null());
        statement
    }

    fn fault(keys: &Value) -> Fault {
        match Policy::from_value(&json!({"Statement": [statement(keys)]})) {
            Err(PolicyError::Statement {
                place: Place { number: 1, .. },
                fault,
            }) => fault,
            other => panic!("{keys}: {other:?}"),
        }
    }

    #[test]
    fn a_document_of_another_shape_is_refused() {
        assert!(matches!(Policy::parse("{"), Err(PolicyError::NotJson(text)) if text.contains("line 1")));
        assert!(matches!(Policy::parse(""), Err(PolicyError::NotJson(_))));
        assert!(refused(&json!([])).contains("not an object"));
        assert!(refused(&json!({"Version": "2012-10-17"})).contains("no Statement"));
        assert!(refused(&json!({"Statement": []})).contains("empty"));
        assert!(refused(&json!({"Statement": "x"})).starts_with("statement 1 is not an object"));
        assert!(refused(&json!({"statement": []})).contains("unknown key \"statement\""));
        assert!(refused(&json!({"Id": 1, "Statement": [statement(&json!({}))]})).contains("Id is not text"));
    }

    #[test]
    fn an_unknown_version_is_refused() {
        for version in [json!("2012-10-18"), json!(2012), json!(null), json!("")] {
            let error = refused(&json!({"Version": version, "Statement": [statement(&json!({}))]}));
            assert!(
                error.contains(&format!("unknown Version {version}")) && error.contains("2012-10-17"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_error_says_which_statement() {
        let error =
            refused(&json!({"Statement": [statement(&json!({})), statement(&json!({"Sid": "Pull", "Effect": null}))]}));
        assert_eq!(error, "statement 2 (Sid \"Pull\") has no Effect: write Allow or Deny");
        let error = refused(&json!({"Statement": [statement(&json!({"Effect": "allow"}))]}));
        assert_eq!(
            error,
            "statement 1 has the unknown Effect \"allow\": write Allow or Deny, in this spelling"
        );
    }

    #[test]
    fn keys_of_a_statement_are_known_and_not_in_conflict() {
        assert_eq!(fault(&json!({"principal": "*"})), Fault::UnknownKey("principal".into()));
        assert_eq!(fault(&json!({"Resource": "*"})), Fault::Resource("Resource".into()));
        assert_eq!(
            fault(&json!({"NotResource": "*"})),
            Fault::Resource("NotResource".into())
        );
        assert_eq!(fault(&json!({"Principal": null})), Fault::NoPrincipal);
        assert_eq!(fault(&json!({"NotPrincipal": {"AWS": "*"}})), Fault::BothPrincipals);
        assert_eq!(fault(&json!({"Action": null})), Fault::NoAction);
        assert_eq!(fault(&json!({"NotAction": "ecr:*"})), Fault::BothActions);
    }

    #[test]
    fn a_principal_has_a_form_that_iam_knows() {
        let principal = |value: Value| fault(&json!({"Principal": value}));
        for shape in [json!("111122223333"), json!({}), json!([]), json!(["*"]), json!(7)] {
            assert_eq!(principal(shape), Fault::PrincipalShape("Principal"));
        }
        assert_eq!(principal(json!({"aws": "*"})), Fault::PrincipalKind("aws".into()));
        assert_eq!(principal(json!({"AWS": []})), Fault::EmptyList("Principal.AWS".into()));
        assert_eq!(
            principal(json!({"AWS": 111_122_223_333_u64})),
            Fault::NotText("Principal.AWS".into())
        );
        assert_eq!(
            principal(json!({"AWS": ["111122223333", null]})),
            Fault::NotText("Principal.AWS".into())
        );
        for form in [
            "",
            " 111122223333",
            "1111 2222 3333",
            "1111-2222-3333",
            "11112222333",
            "١١١١٢٢٢٢٣٣٣٣",
            "role/x",
            "arn:aws:iam::111122223333:role/x ",
        ] {
            assert_eq!(principal(json!({"AWS": form})), Fault::PrincipalForm(form.into()));
        }
        for wildcard in [
            "arn:aws:iam::*:root",
            "arn:aws:iam::111122223333:role/*",
            "1111222233??",
            "${aws:PrincipalArn}",
        ] {
            assert_eq!(
                principal(json!({"AWS": wildcard})),
                Fault::PrincipalWildcard(wildcard.into())
            );
        }
    }

    #[test]
    fn a_stored_policy_may_have_what_a_new_one_may_not() {
        let stored = json!({"Statement": [
            statement(&json!({"Sid": "new statement", "Principal": {"AWS": "arn:aws:iam::*:root"}})),
            statement(&json!({"Sid": "new statement", "Principal": {"AWS": "odd one"}}))
        ]});
        let policy = Policy::parse(&stored.to_string()).expect("a policy");
        let anyone = NamedPrincipal::Anyone;
        assert_eq!(
            policy
                .statements()
                .iter()
                .flat_map(Statement::principals)
                .collect::<Vec<_>>(),
            [anyone, NamedPrincipal::Unrecognized("odd one".into())]
        );
    }

    #[test]
    fn sids_are_letters_and_digits_and_unique() {
        assert_eq!(fault(&json!({"Sid": "new statement"})), Fault::SidCharacters);
        assert_eq!(fault(&json!({"Sid": "a-b"})), Fault::SidCharacters);
        assert_eq!(fault(&json!({"Sid": 7})), Fault::Sid);
        let twice = json!({"Statement": [statement(&json!({"Sid": "A"})), statement(&json!({})), statement(&json!({"Sid": "A"}))]});
        assert_eq!(
            refused(&twice),
            "statements 1 and 3 have the same Sid \"A\": give each its own, or none"
        );
        let none = json!({"Statement": [statement(&json!({"Sid": ""})), statement(&json!({"Sid": ""}))]});
        assert!(Policy::from_value(&none).is_ok());
    }

    #[test]
    fn an_action_has_a_service_and_a_name() {
        for good in [
            "*",
            "ecr:*",
            "ecr:Batch*",
            "ecr:GetDownloadUrlForLaye?",
            "ecr-public:PutImage",
            "ECR:putimage",
        ] {
            assert!(
                Policy::from_value(&json!({"Statement": [statement(&json!({"Action": good}))]})).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "ecr",
            "ecr:",
            ":PutImage",
            "ecr:Put Image",
            "e*:PutImage",
            "ecr:Put:Image",
            "**",
        ] {
            assert_eq!(fault(&json!({"Action": bad})), Fault::ActionForm(bad.into()));
        }
        assert_eq!(fault(&json!({"Action": []})), Fault::EmptyList("Action".into()));
        assert_eq!(fault(&json!({"Action": {"a": 1}})), Fault::NotText("Action".into()));
    }

    #[test]
    fn a_condition_is_operator_key_and_values() {
        let condition = |value: Value| fault(&json!({"Condition": value}));
        assert_eq!(condition(json!("x")), Fault::ConditionShape("Condition".into()));
        assert_eq!(
            condition(json!({"Bool": true})),
            Fault::ConditionShape("Condition \"Bool\"".into())
        );
        assert_eq!(
            condition(json!({"Bool": {"a:b": []}})),
            Fault::EmptyList("Condition Bool.a:b".into())
        );
        for value in [json!(null), json!({}), json!([[1]])] {
            assert_eq!(
                condition(json!({"Bool": {"a:b": value}})),
                Fault::ConditionValue("Bool.a:b".into())
            );
        }
        let operators = json!({"StringEquals": {"a:b": "1"}, "stringequals": {"a:b": "2"}});
        assert_eq!(condition(operators), Fault::ConditionTwice("stringequals".into()));
        let keys = json!({"StringEquals": {"a:B": "1", "a:b": "2"}});
        assert_eq!(condition(keys), Fault::ConditionTwice("StringEquals.a:b".into()));
    }

    #[test]
    fn length_is_that_of_the_text_sent_in_characters() {
        let with_id = |id: &str| json!({"Id": id, "Statement": [statement(&json!({}))]});
        let frame = Policy::from_value(&with_id("")).expect("a policy").to_text().len();
        let longest = "é".repeat(MAX_CHARACTERS - frame);
        assert!(Policy::from_value(&with_id(&longest)).is_ok());
        let characters = MAX_CHARACTERS + 1;
        assert_eq!(
            Policy::from_value(&with_id(&format!("{longest}e"))),
            Err(PolicyError::TooLong { characters })
        );
        let spacious = serde_json::to_string_pretty(&with_id(&longest)).expect("text");
        assert!(Policy::parse(&spacious).is_ok());
    }
}
