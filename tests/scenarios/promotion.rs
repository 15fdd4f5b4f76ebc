//! Promotions on the bed: the right digest in every workload, and back again by itself.

mod back;
mod forward;
mod people;
mod play;
