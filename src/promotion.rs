//! The pure engine of promotions: from the spec, the status and what was seen, to the next move. Nothing here does I/O
//! or has a clock of its own.

#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod facts;
#[allow(dead_code, reason = "the controller that uses it follows")]
mod health;
#[allow(dead_code, reason = "the controller that uses it follows")]
mod owner;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod ownership;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod patch;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod pods;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod via;
#[allow(dead_code, reason = "the controller that uses it follows")]
pub(crate) mod workload;

#[cfg(test)]
mod samples;
