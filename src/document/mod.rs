//! AWS's documents: parse, compare by meaning, compose. Pure.

pub(crate) mod policy;
