//! The text of a repository policy: what the service takes, and the other form in which it gives it back.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The order in which a policy's members come back; others follow by name.
const ORDER: &[&str] = &[
    "Version",
    "Id",
    "Statement",
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// Reads a policy; `None` if the text is not one. Statements come as a list and accounts as ARNs afterwards.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut document: Map<String, Value> = serde_json::from_str(text).ok()?;
    let statements = match document.remove("Statement")? {
        Value::Array(statements) if !statements.is_empty() => statements,
        statement @ Value::Object(_) => vec![statement],
        _ => return None,
    };
    let statements = statements.into_iter().map(statement).collect::<Option<Vec<_>>>()?;
    document.insert("Statement".to_owned(), Value::Array(statements));
    Some(Value::Object(document))
}

fn statement(value: Value) -> Option<Value> {
    let Value::Object(mut statement) = value else {
        return None;
    };
    let effect = statement.get("Effect")?.as_str()?;
    if !matches!(effect, "Allow" | "Deny") {
        return None;
    }
    let principals = one_of(&statement, "Principal", "NotPrincipal")?;
    let actions = one_of(&statement, "Action", "NotAction")?;
    strings(statement.get(actions)?)?;
    let principal = statement.remove(principals)?;
    statement.insert(principals.to_owned(), principal_as_stored(principal)?);
    let action = statement.remove(actions)?;
    statement.insert(actions.to_owned(), unwrapped(action));
    Some(Value::Object(statement))
}

/// The one of two members that is there; `None` if none or both are.
fn one_of<'key>(statement: &Map<String, Value>, positive: &'key str, negative: &'key str) -> Option<&'key str> {
    match (statement.contains_key(positive), statement.contains_key(negative)) {
        (true, false) => Some(positive),
        (false, true) => Some(negative),
        _ => None,
    }
}

/// Text, or a list of texts that is not empty.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) if !texts.is_empty() => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn principal_as_stored(principal: Value) -> Option<Value> {
    match principal {
        Value::String(all) if all == "*" => Some(Value::String(all)),
        Value::Object(kinds) if !kinds.is_empty() => {
            let mut stored = Map::new();
            for (kind, names) in kinds {
                if !matches!(kind.as_str(), "AWS" | "Service" | "Federated" | "CanonicalUser") {
                    return None;
                }
                let names = strings(&names)?
                    .into_iter()
                    .map(|name| named(&kind, name))
                    .collect::<Option<Vec<_>>>()?;
                stored.insert(kind, unwrapped(Value::Array(names)));
            }
            Some(Value::Object(stored))
        }
        _ => None,
    }
}

/// One principal; an account by its number is the account's root.
fn named(kind: &str, name: &str) -> Option<Value> {
    if kind != "AWS" || name == "*" {
        return Some(Value::String(name.to_owned()));
    }
    if is_account(name) {
        return Some(Value::String(format!("arn:aws:iam::{name}:root")));
    }
    let account = name.strip_prefix("arn:aws").and_then(|rest| rest.split(':').nth(3));
    let unique_id = name.starts_with("AIDA") || name.starts_with("AROA");
    (unique_id || account.is_some_and(is_account)).then(|| Value::String(name.to_owned()))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A list of one comes back as its member.
fn unwrapped(value: Value) -> Value {
    match value {
        Value::Array(mut list) if list.len() == 1 => list.remove(0),
        other => other,
    }
}

/// The accounts whose principals the policy names.
pub(super) fn accounts(document: &Value) -> BTreeSet<String> {
    let statements = document
        .get("Statement")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    statements
        .flat_map(|statement| {
            [
                statement.pointer("/Principal/AWS"),
                statement.pointer("/NotPrincipal/AWS"),
            ]
        })
        .flatten()
        .filter_map(strings)
        .flatten()
        .filter_map(|arn| arn.split(':').nth(4).map(str::to_owned))
        .collect()
}

/// Whether each statement names what it is about.
pub(super) fn has_resources(document: &Value) -> bool {
    let statements = document
        .get("Statement")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    statements
        .into_iter()
        .all(|statement| statement.get("Resource").is_some() || statement.get("NotResource").is_some())
}

/// Writes the policy with its members in the service's order and layout.
pub(super) fn pretty(document: &Value) -> String {
    let mut text = String::new();
    write(&mut text, document, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('{');
            for (index, (key, member)) in ordered(members).into_iter().enumerate() {
                text.push_str(if index == 0 { "\n" } else { ",\n" });
                text.push_str(&"  ".repeat(depth + 1));
                // Writing to a string cannot fail.
                let _ = write!(text, "{} : ", Value::String(key.clone()));
                write(text, member, depth + 1);
            }
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
            text.push('}');
        }
        Value::Array(list) if !list.is_empty() => {
            text.push_str("[ ");
            for (index, member) in list.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write(text, member, depth);
            }
            text.push_str(" ]");
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

fn ordered(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(key, _)| {
        let place = ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len());
        (place, key.as_str())
    });
    members
}
