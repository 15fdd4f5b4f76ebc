//! Which tags a rule asks for.

use super::Tags;

impl Tags {
    /// With sorted lists that have nothing twice.
    pub(super) fn normal(mut self) -> Self {
        if let Self::Prefixes(list) | Self::Patterns(list) = &mut self {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    /// Whether an image with these tags meets the requirements.
    pub(crate) fn matches(&self, tags: &[String]) -> bool {
        match self {
            Self::Untagged => tags.is_empty(),
            Self::Any => true,
            Self::Prefixes(list) => list.iter().all(|prefix| tags.iter().any(|tag| tag.starts_with(prefix))),
            Self::Patterns(list) => list.iter().all(|pattern| tags.iter().any(|tag| is_like(tag, pattern))),
        }
    }
}

/// Whether a tag is like a pattern: `*` stands for any text, also for none.
fn is_like(tag: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return tag == pattern;
    };
    let Some(mut tag) = tag.strip_prefix(start) else {
        return false;
    };
    let mut pieces: Vec<_> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        // The first place that fits leaves the most to those that follow.
        let Some(at) = tag.find(piece) else {
            return false;
        };
        tag = &tag[at + piece.len()..];
    }
    tag.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let like = is_like;
        for tag in ["prod", "prod1", "production-team1"] {
            assert!(like(tag, "prod*"), "{tag}");
        }
        assert!(like("repo-production", "*prod*") && like("prod-team", "*prod*"));
        assert!(!like("my-prod", "prod*") && !like("prod1", "prod"));
        assert!(like("a", "*") && like("aXbYa", "a*b*a") && !like("ab", "a*b*b") && !like("a", "a*a"));
        assert!(like("aab", "*ab") && like("x-1-2", "*-*-*") && !like("x-1", "*-*-*"));
    }
}
