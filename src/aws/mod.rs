//! The talk with AWS; the only place that names the SDK.
//!
//! [`connect`] opens a [`client::Ecr`] for one registry. Every call goes through [`client`], which paces it
//! ([`pace`]), counts and logs it ([`meter`]), and turns what went wrong into an [`error::AwsError`] of a class that
//! the rest of the program decides by. [`sqs`] reads events, and [`written`] knows which of them tell of our own writes.
//! [`inventory`], [`batch`] and, for the images of a repository, [`catalog`] make many objects share few calls;
//! [`listing`] does so for what a registry keeps by prefix.
//! [`reports`] holds what clusters say that they use, and [`parking`] is the only place that can delete an image: one of
//! our own that holds nothing. [`documents`] reads what ECR keeps once for a registry as it comes over the [`wire`].

pub(crate) mod backfill;
pub(crate) mod batch;
mod blobs;
pub(crate) mod cache_rules;
pub(crate) mod catalog;
pub(crate) mod client;
pub(crate) mod connect;
mod documents;
pub(crate) mod error;
mod findings;
pub(crate) mod images;
pub(crate) mod inventory;
pub(crate) mod lifecycle;
pub(crate) mod listing;
pub(crate) mod meter;
pub(crate) mod pace;
pub(crate) mod parking;
pub(crate) mod pull;
pub(crate) mod record;
mod replication;
mod reports;
pub(crate) mod sqs;
pub(crate) mod templates;
mod wire;
pub(crate) mod written;
