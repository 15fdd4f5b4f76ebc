//! Images in use: each cluster reports what it uses, and the cluster that manages a registry keeps a tag on each such
//! image, so that no clean-up takes it away. docs/decisions/0013-in-use.md says how that could destroy something, and what
//! stands against it.

mod asks;
mod collect;
mod handle;
mod indexes;
mod keep;
mod lister;
mod protect;
mod publish;
mod replicas;
pub(crate) mod report;
mod shared;
mod shelf;
mod shown;
mod snapshot;
mod tags;
pub(crate) mod task;
pub(crate) mod usage;

pub(crate) use self::handle::Protection;
pub(crate) use self::{
    asks::asks,
    handle::{Ensured, InUse},
    protect::admitting,
    shared::{Shared, repository},
    snapshot::{Snapshot, snapshot},
    usage::Uses,
};
