//! PullSecrets: a Secret that pulls and does nothing else, is renewed in time, and touches nothing of others.

mod accounts;
mod admission;
mod drills;
mod hall;
mod owners;
mod renewal;
mod rights;
