//! How far a copy has come.

use tokio::sync::watch;

/// What a copy is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Finding out what belongs to the image, and what is at the destination already.
    #[default]
    Reading,
    /// Carrying blobs over, and putting each manifest once its blobs are there.
    Copying,
    /// Setting the tags.
    Tagging,
    /// Everything is there.
    Done,
}

/// The state of a copy at a moment. Bytes are those of blobs; a blob that has to be sent again takes its bytes back first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub phase: Phase,
    pub blobs_total: u64,
    /// Copied, mounted, or there before.
    pub blobs_done: u64,
    /// Of all blobs, those that are there included.
    pub bytes_total: u64,
    pub bytes_done: u64,
}

/// Where progress is told, if anybody wants to know. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Teller(Option<watch::Sender<Progress>>);

impl Teller {
    /// A teller and the place to read from. Only the latest state is kept: a slow reader holds nothing up.
    pub(crate) fn new() -> (Self, watch::Receiver<Progress>) {
        let (sender, receiver) = watch::channel(Progress::default());
        (Self(Some(sender)), receiver)
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(sender) = &self.0 {
            sender.send_modify(change);
        }
    }

    /// Takes note of a blob's bytes until it is kept or dropped.
    pub(super) fn blob(&self) -> Tally {
        Tally {
            teller: self.clone(),
            bytes: 0,
        }
    }
}

/// The bytes of one attempt at a blob. An attempt that came to nothing takes them back.
#[derive(Debug)]
pub(super) struct Tally {
    teller: Teller,
    bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.teller.tell(|progress| progress.bytes_done += bytes);
    }

    /// The blob is there.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let bytes = self.bytes;
        if bytes > 0 {
            self.teller
                .tell(|progress| progress.bytes_done = progress.bytes_done.saturating_sub(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_failed_takes_its_bytes_back() {
        let (teller, progress) = Teller::new();
        let (mut kept, mut lost) = (teller.blob(), teller.blob());
        kept.add(3);
        lost.add(4);
        assert_eq!(progress.borrow().bytes_done, 7);
        drop(lost);
        kept.keep();
        assert_eq!(progress.borrow().bytes_done, 3);
    }
}
