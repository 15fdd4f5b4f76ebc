//! The grammars of names: repositories, tags, digests, and patterns with `*`.

/// Whether `name` may name a repository: 2 to 256 characters of path components, each lower-case letters and digits
/// with single `.` or `_`, double `_`, or any number of `-` between them.
pub(super) fn is_repository_name(name: &str) -> bool {
    (2..=256).contains(&name.len()) && is_path(name)
}

/// Whether `path` consists of path components, however long it is.
pub(super) fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut after_plain = false;
    for byte in component.bytes() {
        if plain(byte) {
            if !separator.is_empty() && !is_separator(&separator) {
                return false;
            }
            separator.clear();
            after_plain = true;
        } else if after_plain {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    after_plain && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// Whether `tag` may be an image's tag.
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=300).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Whether `digest` is the SHA-256 digest of a manifest or layer.
pub(super) fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}
