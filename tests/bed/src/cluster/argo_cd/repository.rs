//! A Git repository of manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bed::Bed;

/// A Git repository with one branch, `main`, in the bed's directory.
#[derive(Debug)]
pub struct Repository {
    bed: Bed,
    directory: PathBuf,
}

impl Repository {
    /// Makes one with an empty commit.
    pub(super) async fn create(bed: &Bed, name: &str) -> Result<Self> {
        let directory = bed.directory().join(name);
        fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let repository = Self {
            bed: bed.clone(),
            directory,
        };
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await?;
        repository.commit("An empty repository").await?;
        Ok(repository)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    /// Where its files lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file, without committing it. `path` is relative, as in `web/deployment.yaml`; its folder is made.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = self.directory.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    /// Commits all that was written or removed, or nothing; gives the commit's id.
    pub async fn commit(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])
            .await?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    async fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(arguments);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "bed");
            command.env(format!("GIT_{role}_EMAIL"), "bed@example.invalid");
        }
        // Set by a hook of the repository that the tests themselves may be started from.
        command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE");
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        self.bed.run(&command, "").await?.checked()
    }
}
