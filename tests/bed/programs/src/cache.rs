//! The cache directory: entries that are either complete or not there.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::progress::Progress;
use crate::keeper::Keeper;
use crate::wait;

/// How long an entry that nobody uses is kept. A new one appears for each change to what it is built from.
const UNUSED_LIMIT: Duration = Duration::from_hours(336);

/// How long another build of the same group is waited for.
const LOCK_LIMIT: Duration = Duration::from_hours(1);

/// `ecr-operator/bed` in the user's cache directory: `$XDG_CACHE_HOME`, else `~/Library/Caches` on macOS and `~/.cache`
/// elsewhere.
pub fn cache_directory() -> Result<PathBuf> {
    let named = |variable: &str| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let user_cache = named("XDG_CACHE_HOME").or_else(|| {
        named("HOME").map(|home| {
            home.join(if cfg!(target_os = "macos") {
                "Library/Caches"
            } else {
                ".cache"
            })
        })
    });
    match user_cache {
        Some(directory) => Ok(directory.join("ecr-operator/bed")),
        None => bail!("neither XDG_CACHE_HOME nor HOME names a directory: set one of them, the bed is kept there"),
    }
}

/// The directory of `group` under `key`, made by `build` if it is not there.
///
/// `build` fills the directory it is given and starts its programs through the keeper it is given: when it fails or we end
/// in any way, they are killed and the unfinished directory is removed. Two builds of one group at once, also by different
/// programs, are done one after the other, and the second finds the work done.
pub(super) async fn entry(
    group: &str,
    key: &str,
    progress: &Progress,
    build: impl AsyncFnOnce(&Path, Arc<Keeper>) -> Result<()>,
) -> Result<PathBuf> {
    let cache = cache_directory()?;
    let entry = cache.join(format!("{group}-{key}"));
    if entry.is_dir() {
        mark_used(&entry);
        return Ok(entry);
    }
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let lock = cache.join(format!("{group}.lock"));
    // Closing the file, which the end of this process does too, is what releases the lock.
    let lock = File::create(&lock).with_context(|| format!("opening {}", lock.display()))?;
    wait_for(&lock, group, progress).await?;
    if entry.is_dir() {
        return Ok(entry);
    }
    // Only the holder of the lock has one, so a name of its own is not needed and leftovers are swept here.
    let unfinished = cache.join(format!("{group}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished)?;
    let keeper = Keeper::start(Some(&unfinished))?;
    build(&unfinished, Arc::clone(&keeper)).await?;
    fs::rename(&unfinished, &entry).with_context(|| format!("finishing {}", entry.display()))?;
    keeper.finish();
    prune(&cache, group);
    Ok(entry)
}

async fn wait_for(lock: &File, group: &str, progress: &Progress) -> Result<()> {
    let mut told = false;
    let other = format!("another build of the bed's {group}");
    let waiting = wait::eventually(LOCK_LIMIT, &other, async || match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            if !told {
                progress.say("another build is under way, waiting for it");
                told = true;
            }
            None
        }
        Err(TryLockError::Error(error)) => Some(Err(error)),
        Ok(()) => Some(Ok(())),
    });
    Ok(waiting.await??)
}

/// A cache is no less useful when its times cannot be set or an old entry cannot be removed: no errors from here.
fn mark_used(entry: &Path) {
    if let Ok(directory) = File::open(entry) {
        directory.set_modified(SystemTime::now()).ok();
    }
}

fn prune(cache: &Path, group: &str) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let of_group = entry.file_name().to_string_lossy().starts_with(&format!("{group}-"));
        let used = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .unwrap_or_else(|_| SystemTime::now());
        let unused = SystemTime::now().duration_since(used).unwrap_or_default();
        if of_group && unused > UNUSED_LIMIT {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
