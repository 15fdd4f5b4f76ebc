//! The requests to a promotion: annotations that ask for one thing once. The operator answers each in status.
//!
//! A value is words separated by spaces. The first word is a token that makes the value new; an approval needs none,
//! for it says what is approved and by whom.
//!
//! | Annotation | Value |
//! |---|---|
//! | `approve` | `<digest> <user name>` |
//! | `promote` | `<token> [<digest>\|<tag>\|-] [reason...]` |
//! | `rollback`, `pin` | `<token> [<digest>] [reason...]` |
//! | `reject` | `<token> <digest> [reason...]` |
//! | `resume` | `<token>` |

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use sha2::{Digest as _, Sha256};

use crate::api::{
    GROUP, REQUESTS,
    names::{Digest, Tag},
};

/// How many characters a value may have; what was handled is kept in a status field of this length.
pub(crate) const LONGEST: usize = 512;

/// How many characters a token may have.
const LONGEST_TOKEN: usize = 64;

/// Stands for the image that the policy picks, where a reason follows.
const PICKED: &str = "-";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Approve {
        digest: Digest,
        by: String,
    },
    /// To this image, or to the one that the policy picks.
    Promote {
        image: Option<DigestOrTag>,
        reason: String,
    },
    /// To this image, or to the last good one before the current one.
    Rollback {
        digest: Option<Digest>,
        reason: String,
    },
    /// To this image, or to the current one.
    Pin {
        digest: Option<Digest>,
        reason: String,
    },
    Reject {
        digest: Digest,
        reason: String,
    },
    Resume,
}

/// An image as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DigestOrTag {
    Digest(Digest),
    Tag(Tag),
}

impl std::str::FromStr for DigestOrTag {
    type Err = String;

    /// What begins with `sha256:` is a digest; a tag has no colon.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("sha256:") {
            text.parse().map(Self::Digest).map_err(|error| error.to_string())
        } else {
            text.parse()
                .map(Self::Tag)
                .map_err(|error| format!("neither a digest nor a tag: {error}"))
        }
    }
}

impl fmt::Display for DigestOrTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// A request as an annotation has it: its name, the value to be recorded in `status.lastHandledRequests` when it was handled,
/// and what is asked for, or why that cannot be understood.
pub(crate) type Asked = (&'static str, String, Result<Request, String>);

/// The key of a request's annotation.
pub(crate) fn annotation(name: &str) -> String {
    format!("{GROUP}/{name}")
}

/// The requests that were not handled yet, in the order of their names.
///
/// The recorded value of an annotation that is too long for the status is its hash.
pub(crate) fn requests(annotations: &BTreeMap<String, String>, handled: &BTreeMap<String, String>) -> Vec<Asked> {
    let given = REQUESTS.iter().filter_map(|name| {
        let value = annotations.get(&annotation(name))?;
        let recorded = recorded(value);
        (handled.get(*name) != Some(&recorded)).then(|| (*name, recorded, parse(name, value)))
    });
    given.collect()
}

fn recorded(value: &str) -> String {
    if is_too_long(value) {
        let mut recorded = format!("longer than {LONGEST} characters, sha256:");
        for byte in Sha256::digest(value.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(recorded, "{byte:02x}");
        }
        recorded
    } else {
        value.to_owned()
    }
}

fn is_too_long(value: &str) -> bool {
    value.chars().nth(LONGEST).is_some()
}

/// Reads the value of one request.
fn parse(name: &str, value: &str) -> Result<Request, String> {
    let key = annotation(name);
    if is_too_long(value) {
        return Err(format!("the annotation {key} has more than {LONGEST} characters"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!(
            "the annotation {key} has control characters, such as line breaks; write it in one line"
        ));
    }
    let wrong = |what: String| {
        format!(
            "the annotation {key} is not understood: {what}; write {}",
            grammar(name)
        )
    };
    if name == "approve" {
        return approval(value).map_err(wrong);
    }
    let (first, rest) = word(value);
    if first.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    if first.chars().nth(LONGEST_TOKEN).is_some() {
        return Err(wrong(format!(
            "its first word has more than {LONGEST_TOKEN} characters"
        )));
    }
    let (second, after) = word(rest);
    match name {
        "promote" => Ok(Request::Promote {
            image: match second {
                "" | PICKED => None,
                image => Some(image.parse().map_err(wrong)?),
            },
            reason: after.to_owned(),
        }),
        "rollback" | "pin" => {
            let (digest, reason) = if second.starts_with("sha256:") {
                (Some(digest(second).map_err(wrong)?), after.to_owned())
            } else {
                (None, rest.to_owned())
            };
            Ok(if name == "pin" {
                Request::Pin { digest, reason }
            } else {
                Request::Rollback { digest, reason }
            })
        }
        "reject" => Ok(Request::Reject {
            digest: digest(second).map_err(wrong)?,
            reason: after.to_owned(),
        }),
        "resume" if rest.is_empty() => Ok(Request::Resume),
        "resume" => Err(wrong("something follows the token".into())),
        _ => Err(format!("{key} is not a request")),
    }
}

/// The name of the user is taken as it stands: it was compared with who wrote the annotation.
fn approval(value: &str) -> Result<Request, String> {
    let (first, by) = value.split_once(' ').unwrap_or((value, ""));
    let digest = digest(first)?;
    if by.trim().is_empty() {
        return Err("the name of the user who approves is missing".into());
    }
    if by.trim() != by {
        return Err("there are spaces around the name of the user".into());
    }
    Ok(Request::Approve {
        digest,
        by: by.to_owned(),
    })
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn digest(text: &str) -> Result<Digest, String> {
    if text.is_empty() {
        return Err("the digest is missing".into());
    }
    text.parse()
        .map_err(|error: crate::api::names::NameError| error.to_string())
}

/// What a value looks like, for messages.
fn grammar(name: &str) -> &'static str {
    match name {
        "approve" => "'<digest> <user name>'",
        "promote" => "'<token> [<digest>|<tag>|-] [reason...]'",
        "rollback" | "pin" => "'<token> [<digest>] [reason...]'",
        "reject" => "'<token> <digest> [reason...]'",
        _ => "'<token>'",
    }
}

impl Request {
    /// Which of [`REQUESTS`] it is.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Approve { .. } => "approve",
            Self::Promote { .. } => "promote",
            Self::Rollback { .. } => "rollback",
            Self::Pin { .. } => "pin",
            Self::Reject { .. } => "reject",
            Self::Resume => "resume",
        }
    }

    /// The value of the annotation; `token` is one word that no earlier value began with.
    ///
    /// # Errors
    /// If what is asked for cannot be written in one value: a reason with line breaks, or one that is too long or would
    /// be read as something else.
    pub(crate) fn value(&self, token: &str) -> Result<String, String> {
        let words = match self {
            Self::Approve { digest, by } => format!("{digest} {by}"),
            Self::Promote { image, reason } => match image {
                Some(image) => format!("{token} {image} {reason}"),
                None if reason.is_empty() => token.to_owned(),
                None => format!("{token} {PICKED} {reason}"),
            },
            Self::Rollback { digest, reason } | Self::Pin { digest, reason } => match digest {
                Some(digest) => format!("{token} {digest} {reason}"),
                None => format!("{token} {reason}"),
            },
            Self::Reject { digest, reason } => format!("{token} {digest} {reason}"),
            Self::Resume => token.to_owned(),
        };
        let value = words.trim_end_matches(' ').to_owned();
        if parse(self.name(), &value)? == *self {
            Ok(value)
        } else {
            Err("the reason would be read as something else; write it in other words, without spaces around it".into())
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
