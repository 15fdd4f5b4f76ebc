//! Drives the program as its users do: by the AWS SDK, by an OCI client, and by its control endpoint.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bed;
mod events;
mod faults;
mod images;
mod lifecycle;
mod plane;
mod policies;
mod previews;
mod registry;
mod replication;
mod repositories;
mod rights;
mod scans;
mod signed;
mod sts;
