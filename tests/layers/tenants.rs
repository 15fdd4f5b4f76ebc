//! Tenancy is decided in one place: no other file reads the tenants of a Registry's spec.

use crate::{
    syntax::{attributes, end_of_item},
    tokens::{Token, tokens},
};

/// The lines on which code that is not for tests reads the field `tenants` of something called `spec`.
pub(crate) fn readings(text: &str) -> Vec<usize> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attributes = attributes(&tokens, at);
        if attributes.test {
            at = end_of_item(&tokens, attributes.end).max(at + 1);
            continue;
        }
        found.extend(tokens.get(at..).and_then(reading));
        at += 1;
    }
    found
}

fn reading(tokens: &[Token]) -> Option<usize> {
    match tokens {
        [spec, dot, field, ..] if spec.is_ident("spec") && dot.is('.') && field.is_ident("tenants") => Some(field.line),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_reads_tenants_is_found_and_tests_and_words_are_not() {
        let text = "
            fn first(registry: &Registry) { for tenant in &registry.spec.tenants {} }
            /// Of spec.tenants.
            const TEXT: &str = \"spec.tenants\";
            fn given(access: &Access) { access.tenants.len(); spec.tenants_of(); }
            #[cfg(test)]
            mod tests { fn of(registry: &mut Registry) { registry.spec.tenants.clear(); } }
            fn last(spec: &Spec) -> usize { spec
                .tenants.len() }";
        assert_eq!(readings(text), [2, 9]);
    }
}
