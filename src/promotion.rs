//! The pure engine of promotions: from the spec, the status and what was seen, to the next move. Nothing here does I/O
//! or has a clock of its own.

mod answers;
mod back;
mod baseline;
mod choice;
pub(crate) mod condition;
mod drive;
pub(crate) mod engine;
pub(crate) mod facts;
pub(crate) mod filter;
pub(crate) mod gates;
mod health;
pub(crate) mod job;
mod keep;
pub(crate) mod ledger;
pub(crate) mod moves;
mod owner;
pub(crate) mod ownership;
pub(crate) mod patch;
mod person;
pub(crate) mod platform;
pub(crate) mod pods;
mod rest;
pub(crate) mod rival;
#[cfg(test)]
mod samples;
pub(crate) mod scan;
pub(crate) mod select;
pub(crate) mod signature;
#[cfg(test)]
mod simulation;
mod stuck;
mod targets;
mod version;
pub(crate) mod via;
mod watch;
pub(crate) mod window;
pub(crate) mod workload;
