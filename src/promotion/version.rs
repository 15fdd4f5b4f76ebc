//! Ranges of semantic versions, as `source.policy.semver.range` has them. Pure.
//!
//! Versions and their precedence are those of the `semver` crate. The ranges are our own, because that crate's are
//! Cargo's: there, a bare `1.2.3` means `^1.2.3`, `||` does not exist, and pre-releases cannot be let in. Here they mean
//! what they mean to npm: each comparison is an interval on the order of versions, and one that names fewer than three
//! numbers stands for all versions that begin with these, their pre-releases included.

use std::cmp::Ordering;

use semver::{Prerelease, Version};

/// Why a text is not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{range:?} is not a range of semantic versions: {problem}; write comparisons such as >=1.2 <2, ~1.4, ^2 or 1.x"
)]
pub(crate) struct RangeError {
    range: String,
    problem: String,
}

/// Alternatives, of which one must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    alternatives: Vec<Vec<Interval>>,
    pre_releases: bool,
}

/// How a version stands to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Within,
    /// It lies within the range, but is a pre-release, and these are not let in.
    PreRelease,
    Outside,
}

/// One comparison: the versions from `from` on that come before `before`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    from: Option<Version>,
    before: Option<Bound>,
    /// The pre-release that the comparison names: others of the same three numbers are let in with it.
    names: Option<Version>,
}

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    Excluded(Version),
    Included(Version),
}

/// A version that may lack its last numbers.
struct Partial {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Tilde,
    Caret,
}

/// Longest first, so that none is taken for the beginning of another.
const OPERATORS: [(&str, Operator); 7] = [
    (">=", Operator::GreaterEqual),
    ("<=", Operator::LessEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

/// Reads a tag as a semantic version: all three numbers, with or without a leading `v`. Anything else is none.
pub(crate) fn version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

impl Range {
    /// Reads a range. `pre_releases` lets every pre-release in that lies within it; otherwise only those of which a
    /// comparison names one with the same three numbers.
    pub(crate) fn parse(text: &str, pre_releases: bool) -> Result<Self, RangeError> {
        let alternatives = text
            .split("||")
            .map(alternative)
            .collect::<Result<_, _>>()
            .map_err(|problem| RangeError {
                range: text.chars().take(256).collect(),
                problem,
            })?;
        Ok(Self {
            alternatives,
            pre_releases,
        })
    }

    pub(crate) fn fit(&self, version: &Version) -> Fit {
        let mut fit = Fit::Outside;
        for intervals in &self.alternatives {
            if !intervals.iter().all(|interval| interval.holds(version)) {
                continue;
            }
            let names = |interval: &Interval| {
                interval
                    .names
                    .as_ref()
                    .is_some_and(|named| same_numbers(named, version))
            };
            if self.pre_releases || version.pre.is_empty() || intervals.iter().any(names) {
                return Fit::Within;
            }
            fit = Fit::PreRelease;
        }
        fit
    }
}

impl Interval {
    fn holds(&self, version: &Version) -> bool {
        let reaches = self
            .from
            .as_ref()
            .is_none_or(|from| version.cmp_precedence(from) != Ordering::Less);
        let ends = match &self.before {
            None => true,
            Some(Bound::Excluded(bound)) => version.cmp_precedence(bound) == Ordering::Less,
            Some(Bound::Included(bound)) => version.cmp_precedence(bound) != Ordering::Greater,
        };
        reaches && ends
    }
}

impl Partial {
    /// The first version it stands for.
    fn first(&self) -> Version {
        match (self.minor, self.patch) {
            (Some(minor), Some(patch)) => Version {
                pre: self.pre.clone(),
                ..Version::new(self.major, minor, patch)
            },
            (minor, _) => before_releases(self.major, minor.unwrap_or(0), 0),
        }
    }

    /// Where the versions that it stands for end.
    fn last(&self) -> Bound {
        match (self.minor, self.patch) {
            (Some(_), Some(_)) => Bound::Included(self.first()),
            (Some(minor), None) => Bound::Excluded(before_releases(self.major, minor + 1, 0)),
            (None, _) => Bound::Excluded(before_releases(self.major + 1, 0, 0)),
        }
    }

    /// The first version after those that it stands for.
    fn after(&self) -> Version {
        match self.last() {
            Bound::Excluded(version) => version,
            // The least version above 1.2.3 is 1.2.4-0; the least above 1.2.3-rc.1 is 1.2.3-rc.1.0.
            Bound::Included(version) if version.pre.is_empty() => {
                before_releases(version.major, version.minor, version.patch + 1)
            }
            Bound::Included(version) => {
                let pre = Prerelease::new(&format!("{}.0", version.pre)).unwrap_or_else(|_| version.pre.clone());
                Version { pre, ..version }
            }
        }
    }

    /// Where versions begin that may break what this one does: the next of its leftmost number that is not 0.
    fn breaking(&self) -> Version {
        match (self.major, self.minor, self.patch) {
            (0, Some(0), Some(patch)) => before_releases(0, 0, patch + 1),
            (0, Some(minor), _) => before_releases(0, minor + 1, 0),
            (major, ..) => before_releases(major + 1, 0, 0),
        }
    }
}

/// The least of all versions with these numbers: `1.2.0-0`, before every pre-release of 1.2.0.
fn before_releases(major: u64, minor: u64, patch: u64) -> Version {
    Version {
        pre: Prerelease::new("0").unwrap_or(Prerelease::EMPTY),
        ..Version::new(major, minor, patch)
    }
}

fn same_numbers(a: &Version, b: &Version) -> bool {
    (a.major, a.minor, a.patch) == (b.major, b.minor, b.patch)
}

fn is_separator(character: char) -> bool {
    character == ',' || character.is_ascii_whitespace()
}

/// The comparisons of one alternative.
fn alternative(text: &str) -> Result<Vec<Interval>, String> {
    let mut intervals = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("an alternative is empty".into());
    }
    while !rest.is_empty() {
        let (operator, after) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((Some(*operator), rest.strip_prefix(sign)?)))
            .unwrap_or((None, rest));
        let after = after.trim_start();
        let end = after.find(is_separator).unwrap_or(after.len());
        let (version, after) = after.split_at(end);
        intervals.push(comparison(operator, version)?);
        rest = after.trim_start();
        if let Some(behind) = rest.strip_prefix(',') {
            rest = behind.trim_start();
            if rest.is_empty() {
                return Err("nothing follows the last comma".into());
            }
        }
    }
    Ok(intervals)
}

fn comparison(operator: Option<Operator>, text: &str) -> Result<Interval, String> {
    let Some(version) = partial(text)? else {
        return match operator {
            None => Ok(Interval {
                from: None,
                before: None,
                names: None,
            }),
            Some(_) => Err(format!("{text:?} stands for every version and cannot be compared with")),
        };
    };
    let names = (!version.pre.is_empty()).then(|| version.first());
    let (from, before) = match operator.unwrap_or(Operator::Equal) {
        Operator::Equal => (Some(version.first()), Some(version.last())),
        Operator::Greater => (Some(version.after()), None),
        Operator::GreaterEqual => (Some(version.first()), None),
        Operator::Less => (None, Some(Bound::Excluded(version.first()))),
        Operator::LessEqual => (None, Some(version.last())),
        Operator::Tilde => {
            let next = match version.minor {
                Some(minor) => before_releases(version.major, minor + 1, 0),
                None => before_releases(version.major + 1, 0, 0),
            };
            (Some(version.first()), Some(Bound::Excluded(next)))
        }
        Operator::Caret => (Some(version.first()), Some(Bound::Excluded(version.breaking()))),
    };
    Ok(Interval { from, before, names })
}

/// Reads a version with one to three numbers; `None` where it stands for every version.
fn partial(text: &str) -> Result<Option<Partial>, String> {
    let wrong = || format!("{text:?} is not a version of up to three numbers");
    let bare = text.strip_prefix('v').unwrap_or(text);
    // Build metadata has no part in precedence.
    let (bare, build) = bare
        .split_once('+')
        .map_or((bare, None), |(bare, build)| (bare, Some(build)));
    if build.is_some_and(|build| semver::BuildMetadata::new(build).map_or(true, |build| build.is_empty())) {
        return Err(wrong());
    }
    let (numbers, pre) = bare
        .split_once('-')
        .map_or((bare, None), |(numbers, pre)| (numbers, Some(pre)));
    let pre = match pre {
        None => Prerelease::EMPTY,
        Some("") => return Err(wrong()),
        Some(pre) => Prerelease::new(pre).map_err(|error| format!("{text:?}: {error}"))?,
    };
    let mut parts = Vec::with_capacity(3);
    for part in numbers.split('.') {
        let number = match part {
            "x" | "X" | "*" => None,
            digits => Some(number(digits).ok_or_else(wrong)?),
        };
        if number.is_some() && parts.last() == Some(&None) {
            return Err(format!("{text:?} has a number after a wildcard"));
        }
        parts.push(number);
    }
    let full = parts.len() == 3 && parts.iter().all(Option::is_some);
    if parts.len() > 3 || !full && (!pre.is_empty() || build.is_some()) {
        return Err(wrong());
    }
    let at = |index: usize| parts.get(index).copied().flatten();
    Ok(at(0).map(|major| Partial {
        major,
        minor: at(1),
        patch: at(2),
        pre,
    }))
}

/// At most 16 digits, so that the next number exists too.
fn number(digits: &str) -> Option<u64> {
    let well_formed = (1..=16).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    well_formed.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(range: &str, pre_releases: bool, tag: &str) -> Fit {
        Range::parse(range, pre_releases).unwrap().fit(&version(tag).unwrap())
    }

    fn check(range: &str, within: &[&str], outside: &[&str]) {
        for tag in within {
            assert_eq!(fit(range, false, tag), Fit::Within, "{tag} in {range}");
        }
        for tag in outside {
            assert_ne!(fit(range, false, tag), Fit::Within, "{tag} in {range}");
        }
    }

    #[test]
    fn comparisons_mean_what_they_mean_to_npm() {
        check(">=1.2 <2", &["1.2.0", "1.99.0"], &["1.1.9", "2.0.0"]);
        check(">=1.2,<2", &["1.2.0", "v1.99.0"], &["1.1.9", "2.0.0"]);
        check(">= 1.2 , < 2", &["1.2.0"], &["2.0.0"]);
        check("1.2.3", &["1.2.3", "1.2.3+build.5"], &["1.2.4", "1.3.0"]);
        check("=v1.2.3", &["1.2.3"], &["1.2.2", "1.2.4"]);
        check("1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.9"]);
        check("1", &["1.0.0", "1.9.9"], &["0.9.9", "2.0.0"]);
        check("1.x", &["1.0.0", "1.9.9"], &["2.0.0"]);
        check("1.2.*", &["1.2.7"], &["1.3.0"]);
        check("*", &["0.0.1", "99.0.0"], &["1.0.0-rc.1"]);
        check(">1.2", &["1.3.0"], &["1.2.0", "1.2.9"]);
        check(">1.2.3", &["1.2.4"], &["1.2.3"]);
        check("<=1.2", &["1.2.9", "0.1.0"], &["1.3.0"]);
        check("<=1.2.3", &["1.2.3"], &["1.2.4"]);
        check("~1.4", &["1.4.0", "1.4.9"], &["1.5.0", "1.3.9"]);
        check("~1.4.2", &["1.4.2", "1.4.9"], &["1.4.1", "1.5.0"]);
        check("~1", &["1.0.0", "1.9.0"], &["2.0.0"]);
        check("^2", &["2.0.0", "2.9.0"], &["3.0.0", "1.9.0"]);
        check("^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]);
        check("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]);
        check("^0.0.3", &["0.0.3"], &["0.0.4", "0.0.2"]);
        check("^0.0", &["0.0.1", "0.0.9"], &["0.1.0"]);
        check("^0", &["0.0.1", "0.9.0"], &["1.0.0"]);
        check(
            "1.2 || >=3 <4||5.0.1",
            &["1.2.1", "3.5.0", "5.0.1"],
            &["2.0.0", "4.0.0", "5.0.2"],
        );
    }

    #[test]
    fn pre_releases_are_taken_only_where_the_range_names_one_of_the_same_numbers() {
        check(
            ">=1.3.0-rc.1 <2",
            &["1.3.0-rc.2", "1.3.0"],
            &["1.3.0-beta", "1.4.0-rc.1", "2.0.0-rc.1"],
        );
        check("^1.3.0-rc.1", &["1.3.0-rc.10", "1.9.0"], &["2.0.0-alpha"]);
        check(">1.3.0-rc.1", &["1.3.0-rc.2", "1.3.0-rc.1.0"], &["1.3.0-rc.1", "1.2.9"]);
        assert_eq!(fit(">=1.2 <2", false, "1.3.0-rc.1"), Fit::PreRelease);
        assert_eq!(fit(">=1.2 <2", false, "2.0.0-rc.1"), Fit::Outside);
    }

    #[test]
    fn with_pre_releases_a_partial_version_stands_for_its_pre_releases_too() {
        for (range, tag, expected) in [
            (">=1.2 <2", "1.3.0-rc.1", Fit::Within),
            (">=1.2 <2", "1.2.0-rc.1", Fit::Within),
            (">=1.2 <2", "2.0.0-rc.1", Fit::Outside),
            (">=1.2.0", "1.2.0-rc.1", Fit::Outside),
            ("<2.0.0", "2.0.0-rc.1", Fit::Within),
            ("^1.2", "2.0.0-0", Fit::Outside),
            ("~1.2", "1.3.0-alpha", Fit::Outside),
            ("1.x", "1.0.0-alpha", Fit::Within),
            (">1.2", "1.2.9-rc.1", Fit::Outside),
            (">1.2.3", "1.2.4-0", Fit::Within),
            ("*", "0.0.1-alpha", Fit::Within),
        ] {
            assert_eq!(fit(range, true, tag), expected, "{tag} in {range}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_is_wrong() {
        for wrong in [
            "",
            "||",
            "1 ||",
            "|| 1",
            "1 | 2",
            "latest",
            ">=",
            ">>1",
            "1.2.3.4",
            "1..2",
            "01.2",
            "1.2.3-",
            "1.2.3-rc..1",
            "1.2.3-01",
            "1.2-rc.1",
            "1.2+5",
            "1.2.3+",
            "1.x.3",
            ">=*",
            "^x",
            "1,",
            ",1",
            "1,,2",
            "1.2 - 1.4",
            "1>2",
            "99999999999999999.0.0",
            "vv1",
            "=v",
        ] {
            assert!(Range::parse(wrong, false).is_err(), "{wrong}");
        }
        let error = Range::parse(">=1.2 <2.y", false).unwrap_err().to_string();
        assert!(error.contains("\"2.y\" is not a version"), "{error}");
    }

    #[test]
    fn only_full_versions_are_versions() {
        assert!(version("v1.2.3").is_some());
        assert!(version("1.2.3-rc.1+5").is_some());
        for wrong in [
            "1.2",
            "1",
            "V1.2.3",
            "vv1.2.3",
            "1.2.03",
            "2024.01.15",
            "latest",
            "1.2.3.4",
            "",
        ] {
            assert!(version(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_the_schema_lets_through_the_parser_reads() {
        let pattern = schema_pattern();
        for text in [
            "*",
            "x",
            "1",
            "v1",
            "1.x",
            "1.x.x",
            "1.2.*",
            "1.2.3",
            "1.2.3-rc.1",
            "1.2.3+b.1",
            "1.2.3-rc.1+b",
            ">=1.2 <2",
            ">=1.2,<2",
            "> 1 || ~ 2",
            "^0.0.3",
            "  1.2  ",
            "1.2.3-0a",
            "1.2.3-0",
        ] {
            assert!(pattern.is_match(text), "the schema refuses {text:?}");
            assert!(Range::parse(text, false).is_ok(), "{text:?}");
        }
        // Random texts over the range's alphabet: what the schema takes, the parser must take as well.
        let alphabet = [
            "1", "0", "23", "x", "*", ".", ".", "-", "+", "rc", "v", ">", "<", "=", "~", "^", " ", ",", "||", "|",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut taken = 0;
        for _ in 0..100_000 {
            let length = random.usize(1..9);
            let text: String = (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            let parsed = Range::parse(&text, false);
            if pattern.is_match(&text) {
                taken += 1;
                assert!(parsed.is_ok(), "the schema takes {text:?}: {parsed:?}");
            }
        }
        assert!(taken > 1_000, "{taken}");
    }

    fn schema_pattern() -> regex::Regex {
        let schema = serde_json::to_value(schemars::schema_for!(crate::api::promotion::Semver)).unwrap();
        let rule = schema
            .pointer("/properties/range/x-kubernetes-validations/0/rule")
            .unwrap();
        let pattern = rule.as_str().unwrap().strip_prefix("self.matches(r'").unwrap();
        regex::Regex::new(pattern.strip_suffix("')").unwrap()).unwrap()
    }
}
