//! AWS's documents: parse, compare by meaning, compose. Pure.

pub(crate) mod iam;
pub(crate) mod known;
#[allow(
    dead_code,
    unused_imports,
    reason = "what a policy would do is worked out by the stand-in of the tests, from these very files"
)]
pub(crate) mod lifecycle;
pub(crate) mod policy;
pub(crate) mod replication;
pub(crate) mod scanning;
pub(crate) mod signing;
