//! Promotions on the bed: the right digest in every workload, and back again by itself.

mod argo;
mod back;
mod copying;
mod events;
mod faults;
mod forward;
mod gates;
mod kinds;
mod owners;
mod people;
mod play;
mod rivals;
mod select;
mod tenancy;
mod verify;
mod via;
