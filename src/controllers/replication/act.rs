//! Reads and replaces a registry's replication configuration.
//!
//! ECR has one document for a registry, no version on it, and takes whatever comes last. What this could destroy, and what
//! stands against it, is in docs/decisions/0015-replication.md.

use std::collections::BTreeSet;

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    References,
    place::Kept,
    plan::{Change, Sight, Step},
};
use crate::{
    api::Registry,
    aws::error::AwsError,
    control::{
        error::{Error, Result},
        events::News,
    },
    controllers::registry::connection::Connection,
    document::replication::{Document, Mark, compose::Next},
};

/// The field manager of what is on record: the Registry's own status is written by another.
const MANAGER: &str = "ecr-operator-replication";

/// How much of a document an Event takes, and how many Events a document.
const NOTE: usize = 900;
const NOTES: usize = 10;

/// The document, as it was read since `begun`, or a moment ago where nobody asks for more.
pub(super) async fn read(connection: &Connection, kept: &mut Kept, begun: Instant, asked: bool) -> Result<Document> {
    match kept.seen(begun, asked) {
        Some(document) => Ok(document),
        None => read_now(connection, kept).await,
    }
}

async fn read_now(connection: &Connection, kept: &mut Kept) -> Result<Document> {
    let begun = Instant::now();
    let value = connection.ecr.replication().await?;
    let document = Document::parse(&value).map_err(|error| {
        tracing::warn!(%error, "nothing is written");
        AwsError::incomplete(
            "DescribeRegistry",
            "a replication configuration that this operator knows",
        )
    })?;
    kept.saw(document.clone(), begun);
    Ok(document)
}

/// Which rules are on record as ours. From the apiserver: the watch may be behind what was written a moment ago.
pub(super) async fn written(references: &References, registry: &Registry, kept: &mut Kept) -> Result<BTreeSet<Mark>> {
    let uid = registry.uid().unwrap_or_default();
    if let Some((of, written)) = &kept.written
        && *of == uid
    {
        return Ok(written.clone());
    }
    let api = Api::<Registry>::all(references.client.clone());
    let fresh = api
        .get_opt(&registry.name_any())
        .await
        .map_err(Error::kube("read which rules for replication are ours"))?;
    let status = fresh.and_then(|fresh| fresh.status);
    let marks = status.and_then(|status| status.replication).unwrap_or_default();
    let written: BTreeSet<Mark> = marks.written.iter().map(|mark| Mark::recorded(mark)).collect();
    kept.written = Some((uid, written.clone()));
    Ok(written)
}

/// Takes one step.
pub(super) async fn change(
    step: &Step,
    references: &References,
    registry: &Registry,
    connection: &Connection,
    mut sight: Box<Sight>,
) -> Result<Box<Sight>> {
    match step {
        Step::Forget(marks) => record(references, registry, &mut sight, marks.clone()).await?,
        Step::Put(change) => put(change, references, registry, connection, &mut sight).await?,
    }
    Ok(sight)
}

async fn put(
    change: &Change,
    references: &References,
    registry: &Registry,
    connection: &Connection,
    sight: &mut Sight,
) -> Result<()> {
    let Change { before, next } = change;
    let Next { document, marks, .. } = next;
    // Whatever becomes of the put, and of us: what it brings is ours, and so is what it replaces.
    let all = sight.written.union(marks).cloned().collect();
    record(references, registry, sight, all).await?;
    let now = read_now(connection, &mut sight.kept).await?;
    if !now.is_same(before) {
        // What was worked out is for another document.
        tracing::info!(
            registry = registry.name_any(),
            "the replication configuration has changed meanwhile"
        );
        sight.live = now;
        return Ok(());
    }
    if !before.rules.is_empty() {
        let text = before.value().to_string();
        tracing::info!(
            registry = registry.name_any(),
            before = text,
            "replacing the replication configuration"
        );
        tell(
            references,
            registry,
            News::Normal,
            "ReplicationReplaced",
            "Before it was replaced",
            &text,
        );
        // It is the only copy, should what comes go wrong.
        references.events.flush().await;
    }
    sight.kept.forget();
    connection.ecr.put_replication(&document.value()).await?;
    let after = read_now(connection, &mut sight.kept).await?;
    if after.is_same(document) {
        if sight.written != *marks {
            record(references, registry, sight, marks.clone()).await?;
        }
    } else {
        let text = after.value().to_string();
        tracing::warn!(
            registry = registry.name_any(),
            found = text,
            "somebody else has written the replication configuration at the same time"
        );
        let lead = "Somebody else has written it right after this operator; it was then";
        tell(
            references,
            registry,
            News::Warning,
            "ReplicationOverwritten",
            lead,
            &text,
        );
    }
    sight.live = after;
    Ok(())
}

/// Puts on record which rules are ours.
async fn record(references: &References, registry: &Registry, sight: &mut Sight, marks: BTreeSet<Mark>) -> Result<()> {
    if sight.written == marks {
        return Ok(());
    }
    let written: Vec<&str> = marks.iter().map(Mark::as_str).collect();
    let body = json!({
        "apiVersion": Registry::api_version(&()),
        "kind": Registry::kind(&()),
        "metadata": { "uid": registry.uid() },
        "status": { "replication": { "written": written } },
    });
    // An answer that is lost leaves open what is on record: it is read anew.
    sight.kept.written = None;
    Api::<Registry>::all(references.client.clone())
        .patch_status(
            &registry.name_any(),
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(body),
        )
        .await
        .map_err(Error::kube("put on record which rules for replication are ours"))?;
    sight.kept.written = Some((registry.uid().unwrap_or_default(), marks.clone()));
    sight.written = marks;
    Ok(())
}

/// Tells a document, in as many Events as it takes.
fn tell(references: &References, registry: &Registry, news: News, reason: &'static str, lead: &str, text: &str) {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(NOTE).map(|piece| piece.iter().collect()).collect();
    let shown = pieces.len().min(NOTES);
    for (at, piece) in pieces.iter().take(NOTES).enumerate() {
        let place = match (pieces.len(), shown) {
            (1, _) => String::new(),
            (all, shown) if all > shown => format!(" ({} of {all}, the rest is in the log)", at + 1),
            (all, _) => format!(" ({} of {all})", at + 1),
        };
        references.events.tell(
            registry.object_ref(&()),
            news,
            reason,
            format!("{lead}{place}: {piece}"),
        );
    }
}
