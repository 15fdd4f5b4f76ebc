//! Images on their way from one registry to another, digests preserved.
//!
//! [`mod@reference`] says which image, [`manifest`] what it consists of; both are pure. [`plane`] is the client of a registry's
//! data plane. [`graph`] finds everything that belongs to an image, [`blob`] carries one blob over,
//! [`destination`] is where manifests are put and tags set, and [`copy`] does the whole. What goes wrong is a [`error::CopyError`].

pub(crate) mod blob;
pub(crate) mod copy;
pub(crate) mod destination;
pub(crate) mod error;
pub(crate) mod graph;
pub(crate) mod manifest;
pub(crate) mod plane;
pub(crate) mod progress;
pub(crate) mod reference;
