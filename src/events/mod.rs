//! Events of AWS: SQS in, hints out.
//!
//! [`message`] reads what is on the queue and believes nothing of it; [`flood`] says how often one repository may be
//! looked at because of events; [`queues`] knows which Registry has a queue, and how it does; [`listener`] polls.

pub(crate) mod flood;
pub(crate) mod listener;
pub(crate) mod message;
pub(crate) mod queues;
