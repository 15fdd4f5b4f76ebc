//! Images in use: each cluster reports what it uses, and the cluster that manages a registry keeps a tag on each such
//! image, so that no clean-up takes it away. docs/decisions/0013-in-use.md says how that could destroy something, and what
//! stands against it.

pub(crate) mod collect;
pub(crate) mod protect;
pub(crate) mod report;
pub(crate) mod usage;
