//! The talk with AWS; the only place that names the SDK.
//!
//! [`connect`] opens a [`client::Ecr`] for one registry. Every call goes through [`client`], which paces it
//! ([`pace`]), counts and logs it ([`meter`]), and turns what went wrong into an [`error::AwsError`] of a class that
//! the rest of the program decides by. [`inventory`], [`batch`] and, for the images of a repository, [`catalog`]
//! make many objects share few calls.

pub(crate) mod batch;
#[allow(dead_code, reason = "the controller that uses it follows")]
mod blobs;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod catalog;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod error;
#[allow(dead_code, reason = "the controller that uses it follows")]
mod findings;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod images;
pub(crate) mod inventory;
pub(crate) mod meter;
pub(crate) mod pace;
pub(crate) mod record;
