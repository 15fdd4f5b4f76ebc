//! Promotions on the bed: the right digest in every workload, and back again by itself.

mod argo;
mod back;
mod forward;
mod kinds;
mod owners;
mod people;
mod play;
mod rivals;
mod via;
