//! Which tags are considered, and what of them is compared: `source.filter`. Pure.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::select::InvalidPolicy;
use crate::api::{self, names::Tag};

/// The most memory that one compiled expression may take. The schema bounds its text, yet `(\w{9}){9}` is short too.
const COMPILED_LIMIT: usize = 1 << 20;

/// How deep groups may be nested.
const NEST_LIMIT: u32 = 50;

/// The compiled filter.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    include: Option<Regex>,
    exclude: Vec<Regex>,
    extract: Option<&'a str>,
}

/// Why a tag is not considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dropped {
    NotIncluded,
    Excluded,
    /// `extract` takes nothing from it.
    Empty,
}

impl<'a> Filter<'a> {
    /// Compiles the expressions once for many tags.
    pub(super) fn compile(filter: Option<&'a api::promotion::Filter>) -> Result<Self, InvalidPolicy> {
        let Some(filter) = filter else {
            return Ok(Self {
                include: None,
                exclude: Vec::new(),
                extract: None,
            });
        };
        let include = filter
            .include
            .as_deref()
            .map(|expression| compile("source.filter.include", expression))
            .transpose()?;
        let exclude = filter
            .exclude
            .iter()
            .map(|expression| compile("source.filter.exclude", expression))
            .collect::<Result<_, _>>()?;
        if let Some(extract) = &filter.extract {
            check(extract, include.as_ref())?;
        }
        Ok(Self {
            include,
            exclude,
            extract: filter.extract.as_deref(),
        })
    }

    /// What of the tag is compared.
    pub(super) fn apply<'t>(&self, tag: &'t str) -> Result<Cow<'t, str>, Dropped> {
        if self.exclude.iter().any(|expression| expression.is_match(tag)) {
            return Err(Dropped::Excluded);
        }
        let Some(include) = &self.include else {
            return Ok(tag.into());
        };
        let Some(template) = self.extract else {
            return match include.is_match(tag) {
                true => Ok(tag.into()),
                false => Err(Dropped::NotIncluded),
            };
        };
        let groups = include.captures(tag).ok_or(Dropped::NotIncluded)?;
        let mut extracted = String::new();
        groups.expand(template, &mut extracted);
        match extracted.is_empty() {
            true => Err(Dropped::Empty),
            false => Ok(extracted.into()),
        }
    }
}

/// Whether nobody but the operator and cosign has use for the tag: `in-use.*`, and `sha256-<digest>` with or without a
/// suffix, under which cosign keeps signatures, attestations and lists of contents, and OCI clients keep referrers.
pub(crate) fn is_reserved(tag: &Tag) -> bool {
    tag.as_str().starts_with(api::IN_USE_TAG_PREFIX) || is_companion(tag)
}

/// Whether the tag marks what belongs to another image and cannot run.
pub(super) fn is_companion(tag: &Tag) -> bool {
    tag.as_str().strip_prefix("sha256-").is_some_and(|rest| {
        let (hex, suffix) = rest.split_at_checked(64).unwrap_or_default();
        !hex.is_empty()
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (suffix.is_empty() || suffix.starts_with('.'))
    })
}

fn compile(field: &str, expression: &str) -> Result<Regex, InvalidPolicy> {
    RegexBuilder::new(expression)
        .size_limit(COMPILED_LIMIT)
        .dfa_size_limit(COMPILED_LIMIT)
        .nest_limit(NEST_LIMIT)
        .build()
        .map_err(|error| {
            let why = match error {
                regex::Error::CompiledTooBig(_) => "it is too large when compiled; repeat less".to_owned(),
                // The first lines show the expression with a mark below; the last says what is wrong.
                error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
            };
            InvalidPolicy::new(format!(
                "{field} {expression:?} is not a regular expression that can be used: {why}"
            ))
        })
}

/// Refuses a template that names a group which `include` does not have: the library would put nothing in its place.
fn check(template: &str, include: Option<&Regex>) -> Result<(), InvalidPolicy> {
    let Some(include) = include else {
        return Err(InvalidPolicy::new(
            "source.filter.extract names groups of source.filter.include, which is missing".to_owned(),
        ));
    };
    let mut groups = 0;
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(behind) = rest.strip_prefix('$') {
            rest = behind;
            continue;
        }
        let name = if let Some(braced) = rest.strip_prefix('{') {
            braced.split_once('}').map(|(name, _)| name).unwrap_or_default()
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
        };
        let exists = match name.parse::<usize>() {
            Ok(number) => number < include.captures_len(),
            Err(_) => include.capture_names().flatten().any(|known| known == name),
        };
        if !exists {
            return Err(InvalidPolicy::new(format!(
                "source.filter.extract {template:?} names the group {name:?}, which source.filter.include does not have; \
                 write (?P<{}>...) there",
                if name.is_empty() { "version" } else { name }
            )));
        }
        groups += 1;
    }
    if groups == 0 {
        return Err(InvalidPolicy::new(format!(
            "source.filter.extract {template:?} names no group of source.filter.include; write one as $version"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(include: Option<&str>, exclude: &[&str], extract: Option<&str>) -> api::promotion::Filter {
        api::promotion::Filter {
            include: include.map(Into::into),
            exclude: exclude.iter().map(ToString::to_string).collect(),
            extract: extract.map(Into::into),
        }
    }

    #[test]
    fn a_tag_must_match_include_and_no_exclude_and_gives_what_is_extracted() {
        let spec = spec(Some("^v(?P<version>.*)$"), &["-rc", "^v0"], Some("$version"));
        let filter = Filter::compile(Some(&spec)).unwrap();
        assert_eq!(filter.apply("v1.2.3"), Ok("1.2.3".into()));
        assert_eq!(filter.apply("v1.2.3-rc.1"), Err(Dropped::Excluded));
        assert_eq!(filter.apply("v0.1.0"), Err(Dropped::Excluded));
        assert_eq!(filter.apply("1.2.3"), Err(Dropped::NotIncluded));
        assert_eq!(filter.apply("v"), Err(Dropped::Empty));
        let all = Filter::compile(None).unwrap();
        assert_eq!(all.apply("anything"), Ok("anything".into()));
    }

    #[test]
    fn groups_can_be_put_together() {
        let spec = spec(Some(r"^(\w+)-(?P<n>\d+)$"), &[], Some("${n}.$1$$"));
        assert_eq!(
            Filter::compile(Some(&spec)).unwrap().apply("main-42"),
            Ok("42.main$".into())
        );
    }

    #[test]
    fn expressions_that_cannot_be_used_are_refused_by_name() {
        for (filter, part) in [
            (spec(Some("("), &[], None), "source.filter.include \"(\""),
            (spec(None, &["a**{", "["], None), "source.filter.exclude"),
            (spec(Some(r"((\w{99}){99}){99}"), &[], None), "too large"),
            (spec(Some("^v(.*)$"), &[], Some("$version")), "the group \"version\""),
            (spec(Some("^v(.*)$"), &[], Some("$2")), "the group \"2\""),
            (spec(Some("^v(.*)$"), &[], Some("$1x")), "the group \"1x\""),
            (spec(Some("^v(.*)$"), &[], Some("${1")), "names the group"),
            (spec(Some("^v(.*)$"), &[], Some("version")), "names no group"),
            (spec(None, &[], Some("$1")), "which is missing"),
        ] {
            let error = Filter::compile(Some(&filter)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn tags_of_the_operator_and_of_cosign_are_reserved() {
        let hex = "a".repeat(64);
        for tag in [
            format!("sha256-{hex}.sig"),
            format!("sha256-{hex}.att"),
            format!("sha256-{hex}"),
            format!("in-use.{hex}"),
        ] {
            assert!(is_reserved(&tag.parse().unwrap()), "{tag}");
        }
        for tag in [
            "sha256-abc.sig",
            "in-use",
            "inuse.1",
            "v1.2.3",
            &format!("sha256-{hex}a"),
        ] {
            assert!(!is_reserved(&tag.parse().unwrap()), "{tag}");
        }
    }
}
