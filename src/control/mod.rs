//! The loop every kind runs: observe, plan, apply, report. Knows no kind.
//!
//! [`driven`] is what a controller runs, [`managed`] the passes of most kinds and the trait they implement; [`plan`] the words
//! a plan is made of; [`report`] what is told in status and Events; [`spawn`] the wiring of watches, hints and the loop;
//! [`turns`] says how many are worked on at once; [`gate`] and [`lead`] see to it that one process writes.

pub(crate) mod backoff;
pub(crate) mod context;
pub(crate) mod driven;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod finalizer;
pub(crate) mod gate;
pub(crate) mod lead;
pub(crate) mod managed;
pub(crate) mod plan;
pub(crate) mod reason;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod spawn;
pub(crate) mod turns;
