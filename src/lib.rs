//! ecr-operator manages Amazon ECR from Kubernetes.
//!
//! A map for the reader, in the order in which a change travels:
//! - [`api`]: the objects users write; types, schemas and validation rules.
//! - `control`: the loop every kind runs: observe, plan, apply, report. Knows no kind.
//! - `controllers`: one folder a kind; `plan.rs` decides and is pure, `mod.rs` reads and acts.
//! - `events`: what AWS tells over SQS becomes hints of where to look.
//! - `document`: AWS's documents, parsed, compared by meaning, composed. Pure.
//! - `promotion`: the engine of promotions: which image, what it waits for, the next move. Pure.
//! - `in_use`: which images this cluster uses, told to the cluster that manages the registry, which keeps a tag on each.
//! - `oci`: images on their way from one registry to another.
//! - `aws`: the talk with AWS; the only place that names its SDK.
//! - `cli`: the operator's command line, one file a command. [`kubectl`]: the plugin of kubectl. `terminal`: what both print and
//!   end with.
//! - `server`, `metrics`, `telemetry`: what the operator tells of itself. `http`: the client for whatever is neither AWS's SDK nor
//!   Kubernetes.
//! - `generated`: everything that is derived from the code and kept in the repository.
//!
//! The feature `operator`, which is on by default, is all but the API and the plugin. The plugin's program is built without it: it
//! links no SDK of AWS, and compiles on Windows.

#![cfg_attr(
    not(feature = "operator"),
    allow(dead_code, reason = "the plugin uses a part of the API, and the API is kept whole")
)]

pub mod api;
#[cfg(feature = "operator")]
mod aws;
#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
mod control;
#[cfg(feature = "operator")]
mod controllers;
#[cfg(feature = "operator")]
mod digest;
#[cfg(feature = "operator")]
mod document;
#[cfg(feature = "operator")]
mod events;
#[cfg(feature = "operator")]
pub mod generated;
#[cfg(feature = "operator")]
mod http;
#[cfg(feature = "operator")]
mod in_use;
pub mod kubectl;
#[cfg(feature = "operator")]
mod metrics;
#[cfg(feature = "operator")]
mod oci;
#[cfg(feature = "operator")]
mod promotion;
#[cfg(feature = "operator")]
mod server;
#[cfg(feature = "operator")]
mod telemetry;
mod terminal;
