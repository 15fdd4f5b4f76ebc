//! Reads and replaces a registry's replication configuration.
//!
//! ECR has one document for a registry, no version on it, and takes whatever comes last. What this could destroy, and what
//! stands against it, is in docs/decisions/0015-replication.md.

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    References,
    backfill::{self, Stage},
    place::{Kept, Record},
    plan::{Change, Sight, Step},
};
use crate::{
    api::Registry,
    aws::{
        backfill::Backfill,
        error::{AwsError, Fault},
    },
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

/// What is on record. From the apiserver: the watch may be behind what was written a moment ago.
pub(super) async fn recorded(references: &References, registry: &Registry, kept: &mut Kept) -> Result<Record> {
    let uid = registry.uid().unwrap_or_default();
    if let Some((of, record)) = &kept.record
        && *of == uid
    {
        return Ok(record.clone());
    }
    let api = Api::<Registry>::all(references.client.clone());
    let fresh = api
        .get_opt(&registry.name_any())
        .await
        .map_err(Error::kube("read which rules for replication are ours"))?;
    let status = fresh.and_then(|fresh| fresh.status);
    let marks = status.and_then(|status| status.replication).unwrap_or_default();
    let record = Record {
        written: marks.written.iter().map(|mark| Mark::recorded(mark)).collect(),
        backfills: backfill::recorded(&marks.backfills),
    };
    kept.record = Some((uid, record.clone()));
    Ok(record)
}

/// The backfills of the registry, as they were listed since `begun`, or a moment ago where nobody asks for more.
pub(super) async fn backfills(
    connection: &Connection,
    kept: &mut Kept,
    begun: Instant,
    asked: bool,
) -> Result<Vec<Backfill>> {
    match kept.listed(begun, asked) {
        Some(backfills) => Ok(backfills),
        None => list_now(connection, kept).await,
    }
}

/// Reads how the backfills of an object's destinations stand, as far as that is not known.
pub(super) async fn follow(connection: &Connection, sight: &mut Sight, begun: Instant, asked: bool) -> Result<()> {
    if !sight.manage || !sight.has_open_backfills() {
        return Ok(());
    }
    sight.known = Some(backfills(connection, &mut sight.kept, begun, asked).await?);
    for told in sight.told() {
        let is_new = !sight
            .earlier
            .iter()
            .any(|one| one.id == told.id && backfill::is_over(one));
        if let Some(id) = told.id
            && told.failed > 0
            && is_new
            && told.ended_at.is_some()
        {
            // Examples are a help and no more.
            match connection.ecr.unsent(&id, backfill::EXAMPLES).await {
                Ok(unsent) => drop(sight.unsent.insert(id, unsent)),
                Err(error) => tracing::warn!(%error, "images that were not replicated cannot be named"),
            }
        }
    }
    Ok(())
}

async fn list_now(connection: &Connection, kept: &mut Kept) -> Result<Vec<Backfill>> {
    let begun = Instant::now();
    let backfills = connection.ecr.backfills().await?;
    kept.has_listed(backfills.clone(), begun);
    Ok(backfills)
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
        Step::Forget(marks) => {
            let now = Record {
                written: marks.clone(),
                ..sight.record.clone()
            };
            record(references, registry, &mut sight, now).await?;
        }
        Step::Backfill(_) => start(references, registry, connection, &mut sight).await?,
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
    let Change {
        before,
        next,
        backfills,
    } = change;
    let Next { document, marks, .. } = next;
    // Whatever becomes of the put, and of us: what it brings is ours, and so is what it replaces.
    let all = Record {
        written: sight.record.written.union(marks).cloned().collect(),
        backfills: backfills.clone(),
    };
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
    sight.kept.forget_backfills();
    connection.ecr.put_replication(&document.value()).await?;
    let after = read_now(connection, &mut sight.kept).await?;
    if after.is_same(document) {
        let settled = Record {
            written: marks.clone(),
            backfills: backfills.clone(),
        };
        record(references, registry, sight, settled).await?;
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

/// Starts the backfills that there is room for. That ECR is to be asked is on record before it is: each that comes after
/// those it knows now is the one that was asked for, whether or not its answer arrives.
async fn start(references: &References, registry: &Registry, connection: &Connection, sight: &mut Sight) -> Result<()> {
    let known = list_now(connection, &mut sight.kept).await?;
    let moves = backfill::moves(&sight.record.backfills, &sight.backfilled(), &known);
    let mut next = sight.record.clone();
    for (to, id) in moves.found {
        next.backfills.insert(to, Stage::Started(id));
    }
    for to in &moves.start {
        let asked = Stage::Asked(backfill::before(&known, to));
        next.backfills.insert(to.clone(), asked);
    }
    record(references, registry, sight, next.clone()).await?;
    sight.kept.forget_backfills();
    let mut refused = None;
    for to in moves.start {
        match connection.ecr.start_backfill(&to).await {
            Ok(id) => drop(next.backfills.insert(to, Stage::Started(id))),
            // Somebody else was faster: it waits its turn.
            Err(error) if error.is("ReplicationBackfillInProgressException") || error.fault == Fault::Quota => {}
            Err(error) => refused = Some(error),
        }
    }
    record(references, registry, sight, next).await?;
    if let Some(error) = refused {
        return Err(error.into());
    }
    sight.known = Some(list_now(connection, &mut sight.kept).await?);
    Ok(())
}

/// Puts on record what there is to know.
async fn record(references: &References, registry: &Registry, sight: &mut Sight, next: Record) -> Result<()> {
    if sight.record == next {
        return Ok(());
    }
    let written: Vec<&str> = next.written.iter().map(Mark::as_str).collect();
    let body = json!({
        "apiVersion": Registry::api_version(&()),
        "kind": Registry::kind(&()),
        "metadata": { "uid": registry.uid() },
        "status": { "replication": { "written": written, "backfills": backfill::marks(&next.backfills) } },
    });
    // An answer that is lost leaves open what is on record: it is read anew.
    sight.kept.record = None;
    Api::<Registry>::all(references.client.clone())
        .patch_status(
            &registry.name_any(),
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(body),
        )
        .await
        .map_err(Error::kube("put on record which rules for replication are ours"))?;
    sight.kept.record = Some((registry.uid().unwrap_or_default(), next.clone()));
    sight.record = next;
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
