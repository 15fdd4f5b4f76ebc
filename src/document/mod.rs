//! AWS's documents: parse, compare by meaning, compose. Pure.

#[allow(
    dead_code,
    unused_imports,
    reason = "for the Repository's reconciler; evaluated by tests and their stand-in"
)]
pub(crate) mod lifecycle;
pub(crate) mod policy;
