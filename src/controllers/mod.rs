//! One controller a kind, each a folder: `mod.rs` observes and applies, `plan.rs` decides.

pub(crate) mod access;
#[cfg(test)]
mod access_tests;
pub(crate) mod cache_rule;
pub(crate) mod creation_template;
pub(crate) mod lifecycle;
pub(crate) mod prefixed;
pub(crate) mod promotion;
pub(crate) mod pull_secret;
pub(crate) mod registry;
pub(crate) mod replication;
pub(crate) mod repository;
pub(crate) mod world;
