//! The pure engine of promotions: from the spec, the status and what was seen, to the next move. Nothing here does I/O
//! or has a clock of its own.

mod answers;
mod back;
mod baseline;
mod choice;
mod drive;
pub(crate) mod engine;
pub(crate) mod facts;
mod keep;
pub(crate) mod ledger;
pub(crate) mod moves;
mod person;
pub(crate) mod request;
mod rest;
#[cfg(test)]
mod simulation;
mod targets;
mod watch;
