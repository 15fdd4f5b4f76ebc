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
//! - [`cli`]: one file a command. `server`, `metrics`, `telemetry`: what the operator tells of itself. `http`: the client
//!   for whatever is neither AWS's SDK nor Kubernetes.
//! - [`generated`]: everything that is derived from the code and kept in the repository.

pub mod api;
mod aws;
pub mod cli;
mod control;
mod controllers;
mod digest;
mod document;
mod events;
pub mod generated;
mod http;
mod in_use;
mod metrics;
mod oci;
mod promotion;
mod server;
mod telemetry;
