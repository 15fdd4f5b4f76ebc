//! The pure engine of promotions: from the spec, the status and what was seen, to the next move. Nothing here does I/O
//! or has a clock of its own.

#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod facts;
mod filter;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod gates;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod platform;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod scan;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod select;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod signature;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod version;
#[allow(dead_code, reason = "the engine that uses it follows")]
pub(crate) mod window;
