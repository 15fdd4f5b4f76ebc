//! From JSON to rules. What ECR would refuse on reading is refused here; what it would refuse on looking closer, in
//! [`super::check`].

use serde_json::{Map, Value};

use super::{Action, Count, Error, Rule, Selection, StorageClass, Tags};

const RULE: &[&str] = &["rulePriority", "description", "selection", "action"];
const SELECTION: &[&str] = &[
    "tagStatus",
    "tagPatternList",
    "tagPrefixList",
    "storageClass",
    "countType",
    "countUnit",
    "countNumber",
];
const ACTION: &[&str] = &["type", "targetStorageClass"];

/// The rules in the order in which they are written.
pub(super) fn rules(value: &Value) -> Result<Vec<Rule>, Error> {
    let policy = Object::of(value, "the lifecycle policy".to_owned(), &["rules"])?;
    let list = policy.get("rules").ok_or(Error::Missing {
        field: "rules".to_owned(),
        cure: "add a list with at least one rule",
    })?;
    let list = list.as_array().ok_or(Error::NotAList {
        field: "rules".to_owned(),
    })?;
    let mut previous = 0_u32;
    list.iter()
        .enumerate()
        .map(|(place, value)| {
            let rule = rule(place, value, previous.saturating_add(1))?;
            previous = rule.priority;
            Ok(rule)
        })
        .collect()
}

fn rule(place: usize, value: &Value, next: u32) -> Result<Rule, Error> {
    let rule = Object::of(value, format!("rules[{place}]"), RULE)?;
    let cure = "say which images, as an object with tagStatus, countType and countNumber";
    let select = Object::of(rule.required("selection", cure)?, rule.path("selection"), SELECTION)?;
    let cure = "say what becomes of the images, as an object with type";
    let act = Object::of(rule.required("action", cure)?, rule.path("action"), ACTION)?;
    Ok(Rule {
        priority: rule.number("rulePriority")?.unwrap_or(next),
        description: rule.text("description")?.map(str::to_owned),
        selection: selection(place, &select)?,
        action: action(place, &act)?,
    })
}

fn selection(place: usize, select: &Object<'_>) -> Result<Selection, Error> {
    let statuses = "tagged, untagged and any";
    let tags = match select.required_text("tagStatus", "write tagged, untagged or any")? {
        "tagged" => match (select.list("tagPatternList")?, select.list("tagPrefixList")?) {
            (Some(_), Some(_)) => return Err(Error::BothLists { rule: place }),
            (Some(patterns), None) => Tags::Patterns(patterns),
            (None, Some(prefixes)) => Tags::Prefixes(prefixes),
            (None, None) => return Err(Error::NoList { rule: place }),
        },
        status @ ("untagged" | "any") => {
            if let Some(list) = ["tagPatternList", "tagPrefixList"]
                .into_iter()
                .find(|list| select.get(list).is_some())
            {
                return Err(Error::ListWithoutTagged {
                    field: select.path(list),
                    status: status.to_owned(),
                });
            }
            if status == "any" { Tags::Any } else { Tags::Untagged }
        }
        _ => return Err(select.unknown("tagStatus", statuses)),
    };
    let class = match select.text("storageClass")? {
        None | Some("standard") => StorageClass::Standard,
        Some("archive") => StorageClass::Archive,
        Some(_) => return Err(select.unknown("storageClass", "standard and archive")),
    };
    Ok(Selection {
        tags: tags.normal(),
        class,
        count: count(place, select)?,
    })
}

fn count(place: usize, select: &Object<'_>) -> Result<Count, Error> {
    let cure = "write imageCountMoreThan, sinceImagePushed, sinceImagePulled or sinceImageTransitioned";
    let kind = select.required_text("countType", cure)?;
    let number = select.number("countNumber")?.ok_or_else(|| Error::Missing {
        field: select.path("countNumber"),
        cure: "say how many images stay, or after how many days",
    })?;
    let count = match kind {
        "imageCountMoreThan" => Count::ImagesMoreThan(number),
        "sinceImagePushed" => Count::DaysSincePushed(number),
        "sinceImagePulled" => Count::DaysSincePulled(number),
        "sinceImageTransitioned" => Count::DaysSinceTransitioned(number),
        _ => {
            let known = "imageCountMoreThan, sinceImagePushed, sinceImagePulled and sinceImageTransitioned";
            return Err(select.unknown("countType", known));
        }
    };
    match (count, select.text("countUnit")?) {
        (Count::ImagesMoreThan(_), Some(_)) => Err(Error::UnitOfImages { rule: place }),
        (Count::ImagesMoreThan(_), None) | (_, Some("days")) => Ok(count),
        (_, Some(_)) => Err(select.unknown("countUnit", "days")),
        (_, None) => Err(Error::NoUnit {
            rule: place,
            kind: count.kind(),
        }),
    }
}

fn action(place: usize, act: &Object<'_>) -> Result<Action, Error> {
    let kind = act.required_text("type", "write expire or transition")?;
    match (kind, act.text("targetStorageClass")?) {
        ("expire", None) => Ok(Action::Expire),
        ("expire", Some(_)) => Err(Error::TargetOfExpire { rule: place }),
        ("transition", Some("archive")) => Ok(Action::Archive),
        ("transition", Some(_)) => Err(act.unknown("targetStorageClass", "archive")),
        ("transition", None) => Err(Error::NoTarget { rule: place }),
        _ => Err(act.unknown("type", "expire and transition")),
    }
}

/// A JSON object and the way to it. A key with null is one that is left out, as in YAML.
struct Object<'value> {
    field: String,
    keys: &'value Map<String, Value>,
}

impl<'value> Object<'value> {
    fn of(value: &'value Value, field: String, known: &[&str]) -> Result<Self, Error> {
        let Some(keys) = value.as_object() else {
            let known = known.join(", ");
            return Err(Error::NotAnObject { field, known });
        };
        if let Some(key) = keys.keys().find(|key| !known.contains(&key.as_str())) {
            let (key, known) = (key.clone(), known.join(", "));
            return Err(Error::UnknownKey { field, key, known });
        }
        Ok(Self { field, keys })
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.field)
    }

    fn get(&self, key: &str) -> Option<&'value Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str, cure: &'static str) -> Result<&'value Value, Error> {
        let field = self.path(key);
        self.get(key).ok_or(Error::Missing { field, cure })
    }

    fn text(&self, key: &str) -> Result<Option<&'value str>, Error> {
        let not_text = || Error::NotText { field: self.path(key) };
        self.get(key)
            .map(|value| value.as_str().ok_or_else(not_text))
            .transpose()
    }

    fn required_text(&self, key: &str, cure: &'static str) -> Result<&'value str, Error> {
        let field = self.path(key);
        self.text(key)?.ok_or(Error::Missing { field, cure })
    }

    fn number(&self, key: &str) -> Result<Option<u32>, Error> {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| Error::NotANumber { field: self.path(key) })
        };
        self.get(key).map(number).transpose()
    }

    fn list(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let field = || self.path(key);
        let entries = value.as_array().ok_or_else(|| Error::NotAList { field: field() })?;
        let texts = entries.iter().enumerate().map(|(place, entry)| {
            let text = entry.as_str().map(str::to_owned);
            text.ok_or_else(|| Error::NotText {
                field: format!("{}[{place}]", field()),
            })
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn unknown(&self, key: &str, known: &str) -> Error {
        Error::UnknownValue {
            field: self.path(key),
            value: self.get(key).and_then(Value::as_str).unwrap_or_default().to_owned(),
            known: known.to_owned(),
        }
    }
}
