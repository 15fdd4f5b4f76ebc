//! Free TCP ports, also when several beds look for them at once.
//!
//! Asking the kernel for a free port and giving it back is a race: another bed may be given the same one before ours is
//! bound. Ports are therefore taken from below the range that kernels hand out by themselves (32768 on Linux, 49152 on
//! macOS), in blocks that one bed owns for as long as it holds the lock on the block's file.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const FIRST: u16 = 20_000;
const BLOCK: u16 = 40;
const BLOCKS: u16 = 300;

/// The ports of one bed.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// Their locks last as long as the files are open; a dead process holds none.
    blocks: Vec<File>,
    left: Vec<u16>,
}

impl Ports {
    /// A port of 127.0.0.1 that nothing listens on and that no other bed will be given while this value exists.
    pub(crate) fn take(&mut self, locks: &Path) -> Result<u16> {
        loop {
            while let Some(port) = self.left.pop() {
                // Somebody outside the beds may sit on it.
                if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                    return Ok(port);
                }
            }
            self.take_block(locks)?;
        }
    }

    fn take_block(&mut self, locks: &Path) -> Result<()> {
        fs::create_dir_all(locks).with_context(|| format!("creating {}", locks.display()))?;
        let start = fastrand::u16(..BLOCKS);
        for offset in 0..BLOCKS {
            let first = FIRST + (start + offset) % BLOCKS * BLOCK;
            let path = locks.join(first.to_string());
            let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
            if file.try_lock().is_ok() {
                self.blocks.push(file);
                self.left = (first..first + BLOCK).rev().collect();
                return Ok(());
            }
        }
        bail!("all {BLOCKS} blocks of ports are held by other beds: end some of them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_beds_never_share_a_port() -> Result<()> {
        let locks = std::env::temp_dir().join(format!("bed-ports-test-{}", std::process::id()));
        let (mut one, mut other) = (Ports::default(), Ports::default());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..60 {
            assert!(seen.insert(one.take(&locks)?));
            assert!(seen.insert(other.take(&locks)?));
        }
        fs::remove_dir_all(locks)?;
        Ok(())
    }
}
