//! Scenarios against the bed: a real apiserver, the AWS stand-in over the real SDK, the operator as a process with the
//! chart's own rights. One binary: each more would link Kubernetes and the SDK again.
//!
//! One operator serves most scenarios; each has an AWS account, a Registry and a namespace of its own.

mod admission;
mod caching;
mod claim;
mod converge;
mod copy;
mod crash;
mod deletion;
mod documents;
mod drill;
mod events;
mod export;
mod faults;
mod in_use;
mod lead;
mod ledger;
mod lifecycle;
mod lifecycle_admission;
mod lifecycle_cli;
mod plan;
mod plugin;
mod promotion;
mod promotion_admission;
mod promotion_rights;
mod pull_secret;
mod replicas;
mod replication;
mod rights;
mod rules;
mod storm;
mod support;
mod tenancy;
mod workload_patch;
