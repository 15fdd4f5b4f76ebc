//! The pieces of Rust's grammar that imports need: attributes, visibility, groups in brackets, paths, trees of `use`.

use crate::tokens::{Kind, Token};

/// What the attributes before an item say.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Only tests compile the item.
    pub test: bool,
    /// Only tests compile the whole module.
    pub inner_test: bool,
    pub path: Option<String>,
    /// Where the item begins.
    pub end: usize,
}

pub(crate) fn attributes(tokens: &[Token], begin: usize) -> Attributes {
    let mut found = Attributes {
        end: begin,
        ..Attributes::default()
    };
    while tokens.get(found.end).is_some_and(|token| token.is('#')) {
        let inner = tokens.get(found.end + 1).is_some_and(|token| token.is('!'));
        let open = found.end + 1 + usize::from(inner);
        if !tokens.get(open).is_some_and(|token| token.is('[')) {
            break;
        }
        let end = end_of_group(tokens, open);
        let body = tokens.get(open + 1..end.saturating_sub(1)).unwrap_or_default();
        let test = is_test(body);
        found.test |= test && !inner;
        found.inner_test |= test && inner;
        if let [name, equals, value] = body
            && name.is_ident("path")
            && equals.is('=')
            && let Kind::Text(path) = &value.kind
        {
            found.path = Some(path.clone());
        }
        found.end = end;
    }
    found
}

/// Whether an attribute keeps what follows for tests: `cfg(test)`, `cfg(all(test, ..))`, `test`, `tokio::test`.
fn is_test(attribute: &[Token]) -> bool {
    match attribute {
        [test] => test.is_ident("test"),
        [.., sep, test] if sep.is_path_sep() => test.is_ident("test"),
        [cfg, open, inner @ .., _] if cfg.is_ident("cfg") && open.is('(') => needs_test(inner),
        _ => false,
    }
}

fn needs_test(condition: &[Token]) -> bool {
    match condition {
        [test] => test.is_ident("test"),
        [all, open, inner @ .., _] if all.is_ident("all") && open.is('(') => {
            let mut parts = vec![Vec::new()];
            let mut depth = 0_usize;
            for token in inner {
                depth = depth + usize::from(token.is('(')) - usize::from(token.is(')'));
                if depth == 0 && token.is(',') {
                    parts.push(Vec::new());
                } else if let Some(part) = parts.last_mut() {
                    part.push(token.clone());
                }
            }
            parts.iter().any(|part| needs_test(part))
        }
        _ => false,
    }
}

/// Where `pub`, `pub(crate)` or `pub(in path)` ends that begins here; the same place where there is none.
pub(crate) fn end_of_visibility(tokens: &[Token], at: usize) -> usize {
    if !tokens.get(at).is_some_and(|token| token.is_ident("pub")) {
        return at;
    }
    match tokens.get(at + 1) {
        Some(open) if open.is('(') => end_of_group(tokens, at + 1),
        _ => at + 1,
    }
}

/// Behind the bracket that closes the one that stands here.
pub(crate) fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if ['(', '[', '{'].into_iter().any(|bracket| token.is(bracket)) {
            depth += 1;
        }
        if [')', ']', '}'].into_iter().any(|bracket| token.is(bracket)) {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Whether brackets match; `Err` is the line of one that does not.
pub(crate) fn balanced(tokens: &[Token]) -> Result<(), usize> {
    let mut open: Vec<(char, usize)> = Vec::new();
    for token in tokens {
        let Kind::Punct(punct) = token.kind else { continue };
        match punct {
            '(' => open.push((')', token.line)),
            '[' => open.push((']', token.line)),
            '{' => open.push(('}', token.line)),
            ')' | ']' | '}' if open.pop().is_none_or(|(closing, _)| closing != punct) => return Err(token.line),
            _ => {}
        }
    }
    open.pop().map_or(Ok(()), |(_, line)| Err(line))
}

/// Behind the next semicolon outside of brackets.
pub(crate) fn end_of_statement(tokens: &[Token], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.is(';') {
            return at + 1;
        }
        let opens = ['(', '[', '{'].into_iter().any(|bracket| token.is(bracket));
        at = if opens { end_of_group(tokens, at) } else { at + 1 };
    }
    at
}

/// Behind what an attribute belongs to: an item, a statement, a field, a variant or an arm.
pub(crate) fn end_of_item(tokens: &[Token], begin: usize) -> usize {
    const TO_SEMICOLON: [&str; 6] = ["use", "const", "static", "type", "let", "extern"];
    const ITEMS: [&str; 9] = [
        "fn", "mod", "struct", "enum", "union", "trait", "impl", "async", "unsafe",
    ];
    let first = end_of_visibility(tokens, begin);
    let word = tokens.get(first).and_then(Token::ident).unwrap_or_default();
    let is_constant_function = word == "const" && tokens.get(first + 1).is_some_and(|next| next.is_ident("fn"));
    if TO_SEMICOLON.contains(&word) && !is_constant_function {
        return end_of_statement(tokens, first);
    }
    let is_item = is_constant_function || ITEMS.contains(&word);
    let mut at = first;
    while let Some(token) = tokens.get(at) {
        if [')', ']', '}'].into_iter().any(|bracket| token.is(bracket)) {
            return at;
        }
        if token.is(';') || (token.is(',') && !is_item) {
            return at + 1;
        }
        if ['(', '[', '{'].into_iter().any(|bracket| token.is(bracket)) {
            let end = end_of_group(tokens, at);
            if token.is('{') {
                return end;
            }
            at = end;
        } else {
            at += 1;
        }
    }
    at
}

/// The names of the path that begins here, up to the first thing that is no name.
pub(crate) fn path_at(tokens: &[Token], mut at: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(name) = tokens.get(at).and_then(Token::ident) {
        path.push(name.to_owned());
        if !tokens.get(at + 1).is_some_and(Token::is_path_sep) {
            break;
        }
        at += 2;
    }
    path
}

/// One thing that a `use` brings in.
pub(crate) struct Leaf {
    pub line: usize,
    pub path: Vec<String>,
    /// The name under which it is known; `None` for `*` and `_`.
    pub name: Option<String>,
}

pub(crate) fn leaves_of(tree: &[Token], before: &[String], found: &mut Vec<Leaf>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while let Some(token) = tree.get(at) {
        if token.is('{') {
            let end = end_of_group(tree, at);
            let mut branch = at + 1;
            while branch < end - 1 {
                let rest = tree.get(branch..end - 1).unwrap_or_default();
                let length = length_of_branch(rest);
                leaves_of(rest.get(..length).unwrap_or_default(), &path, found);
                branch += length + 1;
            }
            return;
        }
        let Some(name) = token.ident() else {
            // All of a module: named by what is in it.
            if token.is('*') {
                path.push("*".to_owned());
                found.push(Leaf {
                    line: token.line,
                    path,
                    name: None,
                });
                return;
            }
            at += 1;
            continue;
        };
        // `self` at the end is the module itself.
        if name != "self" || path.is_empty() {
            path.push(name.to_owned());
        }
        if !tree.get(at + 1).is_some_and(Token::is_path_sep) {
            let renamed = tree
                .get(at + 1)
                .filter(|next| next.is_ident("as"))
                .and(tree.get(at + 2));
            let name = renamed.map_or(path.last().cloned(), |token| token.ident().map(str::to_owned));
            found.push(Leaf {
                line: token.line,
                path,
                name: name.filter(|name| name != "_"),
            });
            return;
        }
        at += 2;
    }
}

/// The tokens up to the next comma outside of brackets.
fn length_of_branch(tree: &[Token]) -> usize {
    let mut at = 0;
    while let Some(token) = tree.get(at).filter(|token| !token.is(',')) {
        at = if token.is('{') { end_of_group(tree, at) } else { at + 1 };
    }
    at
}
