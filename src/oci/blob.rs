//! One blob on its way: looked for, mounted, or streamed and hashed while it passes.
//!
//! At no time more of it is in memory than some pieces of the connection's own size. Where the source breaks off, reading
//! goes on from there while the destination waits; where the destination breaks off, the blob is sent afresh. An upload is
//! only finished once the hash of all that was sent is the blob's digest.

use crate::api::names::Digest;
use std::{pin::pin, time::Duration};

use backon::BackoffBuilder as _;
use bytes::Bytes;
use futures::stream;
use reqwest::{Body, Response};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    error::CopyError,
    manifest::Blob,
    plane::{IDLE_LIMIT, Place, Upload, pauses},
    progress::{Tally, Teller},
};
use crate::aws::error::AwsError;

/// How many pieces wait between source and destination. A piece is what the connection gives at a time, at most some
/// hundred kilobytes.
const PIECES: usize = 4;

/// How long the registry may take to say that it has received all of a blob.
const RECEIPT_LIMIT: Duration = Duration::from_mins(5);

/// How a blob came to be at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was there.
    Skipped,
    /// The registry took it over from another repository.
    Mounted,
    /// It was sent.
    Copied,
    /// Neither place has it, and neither needs to: it is kept elsewhere.
    Elsewhere,
}

/// Brings a blob to the destination, if it is not there, in as many attempts as it takes.
pub(super) async fn copy_blob(
    source: &Place,
    destination: &Place,
    blob: &Blob,
    teller: &Teller,
) -> Result<Arrival, CopyError> {
    let mut pauses = pauses().build();
    loop {
        let tally = teller.blob();
        let error = match attempt(source, destination, blob, tally).await {
            Err(error) if error.can_heal() => error,
            other => return other,
        };
        let Some(pause) = pauses.next() else {
            return Err(error);
        };
        tracing::debug!(?pause, digest = %blob.digest, "the blob is sent again: {error}");
        tokio::time::sleep(pause).await;
    }
}

async fn attempt(source: &Place, destination: &Place, blob: &Blob, mut tally: Tally) -> Result<Arrival, CopyError> {
    if destination.has_blob(&blob.digest).await? {
        return Ok(arrived(Arrival::Skipped, tally, blob));
    }
    if blob.elsewhere && !source.has_blob(&blob.digest).await? {
        return Ok(arrived(Arrival::Elsewhere, tally, blob));
    }
    let same_registry = source.plane.host().is_same_registry(destination.plane.host());
    let mount_from = same_registry.then_some(&source.repository);
    let upload = match destination.begin_upload(&blob.digest, mount_from).await? {
        Upload::Mounted => return Ok(arrived(Arrival::Mounted, tally, blob)),
        Upload::To(upload) => upload,
    };
    let finish = if blob.size == 0 {
        upload
    } else {
        let (sender, receiver) = mpsc::channel(PIECES);
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            let piece: Bytes = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), receiver))
        });
        let mut sending = pin!(destination.send_blob(upload, blob.size, Body::wrap_stream(pieces)));
        let reading = pin!(read(source, destination, blob, sender, &mut tally));
        tokio::select! {
            // Before all was read: whatever it is, the blob is not there. Dropping the other ends it.
            sent = &mut sending => {
                sent?;
                return Err(stalled(destination, "PATCH upload", "patience: it answered before all was sent"));
            }
            read = reading => read?,
        }
        tokio::time::timeout(RECEIPT_LIMIT, sending)
            .await
            .map_err(|_| stalled(destination, "PATCH upload", "a receipt for all that was sent"))??
    };
    destination.finish_upload(finish, &blob.digest).await?;
    tally.keep();
    Ok(Arrival::Copied)
}

/// The blob is there without having been sent.
fn arrived(how: Arrival, mut tally: Tally, blob: &Blob) -> Arrival {
    tally.add(blob.size);
    tally.keep();
    how
}

/// Reads the whole blob, hashes it and hands it on. Succeeds only if it was what its digest says.
async fn read(
    source: &Place,
    destination: &Place,
    blob: &Blob,
    sender: mpsc::Sender<Bytes>,
    tally: &mut Tally,
) -> Result<(), CopyError> {
    let mut hasher = Sha256::new();
    let mut received: u64 = 0;
    let mut breaks = pauses().build();
    while received < blob.size {
        let before = received;
        let (begins, mut response) = source.open_blob(&blob.digest, received).await?;
        // Of a registry that begins from the start again, what was received is passed over.
        let mut passed = begins;
        if passed > received {
            return Err(stalled(source, "GET blob", "the part that was asked for"));
        }
        let broken = loop {
            let mut piece = match next(source, &mut response).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break stalled(source, "GET blob", "its end"),
                Err(error) => break error,
            };
            let known = (received - passed).min(piece.len() as u64);
            passed += piece.len() as u64;
            // Not more than a piece, which fits.
            let piece = piece.split_off(usize::try_from(known).unwrap_or_default());
            if received + piece.len() as u64 > blob.size {
                return Err(damaged(
                    source,
                    blob,
                    format!("it has more than its {} bytes", blob.size),
                ));
            }
            hasher.update(&piece);
            received += piece.len() as u64;
            tally.add(piece.len() as u64);
            if !piece.is_empty() {
                hand_on(destination, &sender, piece).await?;
            }
            if received == blob.size {
                break stalled(source, "GET blob", "nothing");
            }
        };
        if received == blob.size {
            break;
        }
        if received > before {
            // It goes on, if in parts.
            breaks = pauses().build();
        }
        let Some(pause) = breaks.next() else {
            return Err(broken);
        };
        tracing::debug!(digest = %blob.digest, received, "the source broke off, reading goes on from there: {broken}");
        tokio::time::sleep(pause).await;
    }
    let actual = Digest::finish(hasher);
    match actual == blob.digest {
        true => Ok(()),
        false => Err(damaged(source, blob, format!("its content has the digest {actual}"))),
    }
}

async fn next(source: &Place, response: &mut Response) -> Result<Option<Bytes>, CopyError> {
    match tokio::time::timeout(IDLE_LIMIT, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => {
            let error = error.without_url();
            Err(stalled(source, "GET blob", &format!("its rest ({error})")))
        }
        Err(_) => Err(stalled(source, "GET blob", "more within a minute")),
    }
}

async fn hand_on(destination: &Place, sender: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), CopyError> {
    match tokio::time::timeout(IDLE_LIMIT, sender.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        // Why nobody listens any more, the sending side is about to tell: leave it the time for it.
        Ok(Err(_)) => {
            tokio::time::sleep(IDLE_LIMIT).await;
            Err(stalled(destination, "PATCH upload", "an open connection"))
        }
        Err(_) => Err(stalled(
            destination,
            "PATCH upload",
            "a reader: nothing was taken within a minute",
        )),
    }
}

fn stalled(place: &Place, operation: &'static str, what: &str) -> CopyError {
    place.failed(AwsError::incomplete(operation, what))
}

fn damaged(source: &Place, blob: &Blob, why: String) -> CopyError {
    CopyError::Damaged {
        place: source.to_string(),
        what: format!("blob {}", blob.digest),
        why,
    }
}
