//! Rust's text as tokens: as much of its grammar as is needed to tell code from comments, strings and lifetimes.

/// A token and the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or a keyword; a raw identifier without its `r#`.
    Ident(String),
    /// `::`.
    PathSep,
    /// Any other character of punctuation, a bracket among them.
    Punct(char),
    /// A string without escapes resolved, of any kind.
    Text(String),
    /// A number, a character, a byte or a lifetime.
    Other,
}

impl Token {
    pub(crate) fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn is_ident(&self, name: &str) -> bool {
        self.ident() == Some(name)
    }

    pub(crate) fn is(&self, punct: char) -> bool {
        self.kind == Kind::Punct(punct)
    }

    pub(crate) fn is_path_sep(&self) -> bool {
        self.kind == Kind::PathSep
    }
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        found: Vec::new(),
    };
    while reader.step() {}
    reader.found
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
    found: Vec<Token>,
}

impl Reader<'_> {
    /// Reads one token, comment or blank. `false` at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        let line = self.line;
        if first.is_whitespace() {
            self.take(first.len_utf8());
        } else if self.rest.starts_with("//") {
            self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.take(self.comment());
        } else if let Some((length, text)) = self.string() {
            self.push(length, Kind::Text(text), line);
        } else if let Some(length) = self.character() {
            self.push(length, Kind::Other, line);
        } else if first.is_alphabetic() || first == '_' {
            let raw = self.rest.strip_prefix("r#").filter(|name| starts_name(name));
            let name: String = raw
                .unwrap_or(self.rest)
                .chars()
                .take_while(|next| continues_name(*next))
                .collect();
            let prefix = if raw.is_some() { 2 } else { 0 };
            self.push(prefix + name.len(), Kind::Ident(name), line);
        } else if first.is_ascii_digit() {
            let length = self.rest.find(|next| !continues_name(next)).unwrap_or(self.rest.len());
            self.push(length, Kind::Other, line);
        } else if self.rest.starts_with("::") {
            self.push(2, Kind::PathSep, line);
        } else {
            self.push(first.len_utf8(), Kind::Punct(first), line);
        }
        true
    }

    fn push(&mut self, length: usize, kind: Kind, line: usize) {
        self.found.push(Token { kind, line });
        self.take(length);
    }

    fn take(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    /// The length of a block comment, which may hold others.
    fn comment(&self) -> usize {
        let (mut depth, mut at) = (0_usize, 0);
        loop {
            let rest = &self.rest[at..];
            if rest.starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if rest.starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
            } else {
                match rest.chars().next() {
                    Some(next) => at += next.len_utf8(),
                    None => return at,
                }
            }
            if depth == 0 {
                return at;
            }
        }
    }

    /// The length of a string and what it holds.
    fn string(&self) -> Option<(usize, String)> {
        let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
            let rest = self.rest.strip_prefix(*prefix);
            rest.is_some_and(|rest| rest.starts_with('"') || (prefix.ends_with('r') && rest.starts_with('#')))
        })?;
        let letters = prefix.len();
        if prefix.ends_with('r') {
            let hashes = self.rest[letters..].chars().take_while(|next| *next == '#').count();
            let begin = letters + hashes + 1;
            if !self.rest[letters + hashes..].starts_with('"') {
                return None;
            }
            let end = format!("\"{}", "#".repeat(hashes));
            let length = self.rest[begin..].find(&end)?;
            return Some((begin + length + end.len(), self.rest[begin..begin + length].to_owned()));
        }
        let inner = self.rest[letters..].strip_prefix('"')?;
        let mut escaped = false;
        let length = inner.find(|next| {
            let ends = next == '"' && !escaped;
            escaped = next == '\\' && !escaped;
            ends
        })?;
        Some((letters + 1 + length + 1, inner[..length].to_owned()))
    }

    /// The length of a character, a byte or a lifetime.
    fn character(&self) -> Option<usize> {
        let prefix = usize::from(self.rest.starts_with("b'"));
        let inner = self.rest[prefix..].strip_prefix('\'')?;
        let mut chars = inner.char_indices();
        let (_, first) = chars.next()?;
        let (second_at, second) = chars.next()?;
        if first == '\\' {
            let (after, _) = chars.next()?;
            return Some(prefix + 1 + after + inner[after..].find('\'')? + 1);
        }
        if second == '\'' {
            return Some(prefix + 1 + second_at + 1);
        }
        Some(prefix + 1 + inner.find(|next| !continues_name(next)).unwrap_or(inner.len()))
    }
}

fn starts_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn continues_name(next: char) -> bool {
    next.is_alphanumeric() || next == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        tokens(text)
            .iter()
            .filter_map(|token| token.ident().map(str::to_owned))
            .collect()
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_are_no_names() {
        let text = r###"
            // crate::a
            /* crate::b /* crate::c */ crate::d */
            /// crate::e
            one("crate::f \" crate::g", 'h', '\'', '\u{1F600}', b'i', b"j", r"k\", r#"l " m"#, br##"n"# o"##)
            two::<'p, 'static>('"', 0x7f_u8, 1..2)
        "###;
        assert_eq!(names(text), ["one", "two"]);
    }

    #[test]
    fn raw_identifiers_lose_their_prefix_and_names_that_begin_like_strings_stay() {
        assert_eq!(
            names("r#type rest b br_1 crate"),
            ["type", "rest", "b", "br_1", "crate"]
        );
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let found = tokens("/* \n */ one \"\n\n\" two\nthree");
        let lines: Vec<(Option<&str>, usize)> = found.iter().map(|token| (token.ident(), token.line)).collect();
        assert_eq!(
            lines,
            [(Some("one"), 2), (None, 2), (Some("two"), 4), (Some("three"), 5)]
        );
    }
}
