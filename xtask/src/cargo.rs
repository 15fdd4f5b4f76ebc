//! Cargo, run in view.

use std::process::Command;

use bed_programs::root;

/// Cargo in the clone's folder.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root());
    cargo
}
