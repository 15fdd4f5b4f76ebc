//! Promotions on the bed: the right digest in every workload, and back again by itself.

mod back;
mod copying;
mod events;
mod faults;
mod forward;
mod gates;
mod people;
mod play;
mod select;
mod tenancy;
mod verify;
