//! What of a document is known. ECR's documents are replaced whole by whoever writes them, so a member that this program
//! does not know would be lost by its write: it is found here, and nothing is written then.

use serde_json::{Map, Value};

/// A document as ECR has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<T> {
    /// What of it is understood.
    pub document: T,
    /// Members that a write of ours would lose, by their place in the document.
    pub unknown: Vec<String>,
    /// All of it, as compact JSON; empty where there is none.
    pub text: String,
}

/// Reads one document and notes what it does not know.
pub(super) struct Reader {
    unknown: Vec<String>,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self { unknown: Vec::new() }
    }

    /// The members of an object; those not in `known` are noted, but for empty ones.
    pub(super) fn object<'v>(
        &mut self,
        value: &'v Value,
        place: &str,
        known: &[&str],
    ) -> Result<&'v Map<String, Value>, String> {
        let object = value
            .as_object()
            .ok_or_else(|| format!("{} is not an object", named(place)))?;
        let strange = object
            .iter()
            .filter(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
        self.unknown.extend(strange.map(|(key, _)| match place {
            "" => key.clone(),
            place => format!("{place}.{key}"),
        }));
        Ok(object)
    }

    pub(super) fn finish<T>(self, document: T, value: &Value) -> Stored<T> {
        Stored {
            document,
            unknown: self.unknown,
            text: value.to_string(),
        }
    }
}

/// The elements of a list that may be absent.
pub(super) fn list<'v>(object: &'v Map<String, Value>, key: &str, place: &str) -> Result<&'v [Value], String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{key} of {} is not a list", named(place))),
    }
}

pub(super) fn text(object: &Map<String, Value>, key: &str, place: &str) -> Result<String, String> {
    object
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("{} has no {key}", named(place)))
}

fn named(place: &str) -> &str {
    if place.is_empty() { "the document" } else { place }
}
