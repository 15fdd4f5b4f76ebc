//! Keys: a digest of everything that a group is built from.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::digest::hexadecimal;

/// Collects what a group is built from.
#[derive(Default)]
pub(super) struct Key {
    digest: Sha256,
}

impl Key {
    /// Adds one ingredient. Its length goes in too, so that two ingredients cannot pass for two others.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.digest.update((bytes.len() as u64).to_le_bytes());
        self.digest.update(bytes);
    }

    /// Adds a file's content.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<()> {
        self.add(&fs::read(path).with_context(|| format!("reading {}", path.display()))?);
        Ok(())
    }

    /// Adds the names and contents of all files below `folder`, but for what lies in a folder called `skipped`.
    pub(super) fn add_tree(&mut self, folder: &Path, skipped: &str) -> Result<()> {
        for path in files(folder, OsStr::new(skipped))? {
            let name = path.strip_prefix(folder).unwrap_or(&path);
            self.add(name.as_os_str().as_encoded_bytes());
            self.add_file(&path)?;
        }
        Ok(())
    }

    /// 20 hexadecimal digits, which is plenty for the few entries of a cache.
    pub(super) fn finish(self) -> String {
        format!("{:.20}", hexadecimal(&self.digest.finalize()))
    }
}

fn files(folder: &Path, skipped: &OsStr) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == skipped {
            continue;
        }
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path(), skipped)?);
        } else {
            found.push(entry.path());
        }
    }
    // The order in which a file system lists is its own affair.
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_differently_has_another_key() {
        let key = |parts: &[&str]| {
            let mut key = Key::default();
            for part in parts {
                key.add(part.as_bytes());
            }
            key.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }

    #[test]
    fn a_tree_has_the_key_of_its_contents_without_what_is_skipped() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("bed-key-test-{}", std::process::id()));
        let key = || {
            let mut key = Key::default();
            key.add_tree(&folder, "target").map(|()| key.finish())
        };
        fs::create_dir_all(folder.join("src"))?;
        fs::create_dir_all(folder.join("target"))?;
        fs::write(folder.join("src/main.rs"), "fn main() {}")?;
        let before = key()?;
        fs::write(folder.join("target/output"), "something")?;
        assert_eq!(key()?, before);
        fs::write(folder.join("src/main.rs"), "fn main() { }")?;
        assert_ne!(key()?, before);
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}
