//! Which clone of the repository is meant.

use std::path::{Path, PathBuf};

/// Every clone has it.
const MARK: &str = "tests/bed/cluster/k8s/go.mod";

/// The folder of the clone that cargo runs us for; outside of cargo, of the one that we were compiled in.
///
/// The two differ where clones share one target directory: cargo then takes what was compiled for the other.
#[must_use]
pub fn root() -> PathBuf {
    let run_for = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = run_for.as_deref().and_then(marked).or_else(|| marked(compiled_in));
    found.unwrap_or(compiled_in).to_owned()
}

fn marked(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|ancestor| ancestor.join(MARK).is_file())
}
