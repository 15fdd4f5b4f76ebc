//! Which backfills are to be started, and how those that were are told. Pure.
//!
//! ECR takes no token by which a backfill that was asked for twice would be known again. What stands against starting one
//! twice is in docs/decisions/0015-replication.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::parts::destination;
use crate::{
    api::{
        registry::{BackfillMark, BackfillsBefore},
        replication::{BackfillStatus, ImageOnItsWay},
    },
    aws::backfill::{Backfill, Unsent, is_final},
    control::events::cut,
    document::replication::Place,
    metrics::replication::BackfillState,
};

/// How many backfills ECR runs at a time for a registry; one for each Region ("Amazon ECR service quotas").
const MOST: usize = 10;

/// The state of one that was not started yet.
const WAITING: &str = "Waiting";

/// How far a backfill has come on its way to ECR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Wanted,
    /// ECR was asked, or was about to be; what comes after these is what it was asked for.
    Asked(BackfillsBefore),
    Started(String),
}

pub(crate) type Stages = BTreeMap<Place, Stage>;

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Those that turn out to be started, with their ids.
    pub found: BTreeMap<Place, String>,
    /// Those that ECR has room for.
    pub start: BTreeSet<Place>,
}

impl Moves {
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.start.is_empty()
    }
}

/// Decides for the destinations of one object, `known` being all backfills of the registry.
pub(crate) fn moves(stages: &Stages, of: &BTreeSet<Place>, known: &[Backfill]) -> Moves {
    let mut moves = Moves::default();
    let running = known.iter().filter(|backfill| !backfill.is_over());
    let mut busy: Vec<&str> = running.map(|backfill| backfill.to.region.as_str()).collect();
    for (to, stage) in stages.iter().filter(|(to, _)| of.contains(to)) {
        let found = match stage {
            Stage::Started(_) => continue,
            Stage::Wanted => None,
            Stage::Asked(before) => known.iter().find(|one| one.to == *to && is_later(one, before)),
        };
        if let Some(found) = found {
            moves.found.insert(to.clone(), found.id.clone());
        } else if busy.len() < MOST && !busy.contains(&to.region.as_str()) {
            busy.push(&to.region);
            moves.start.insert(to.clone());
        }
    }
    moves
}

/// The backfills of a destination that were started last, by ECR's own clock, which counts in seconds.
pub(crate) fn before(known: &[Backfill], to: &Place) -> BackfillsBefore {
    let mut before = BackfillsBefore::default();
    for one in known.iter().filter(|one| one.to == *to) {
        let at = Some(one.started_at);
        if at > before.started_at {
            before.started_at = at;
            before.ids.clear();
        }
        if at == before.started_at {
            before.ids.push(one.id.clone());
        }
    }
    before
}

fn is_later(backfill: &Backfill, before: &BackfillsBefore) -> bool {
    let at = Some(backfill.started_at);
    at > before.started_at || at == before.started_at && !before.ids.contains(&backfill.id)
}

pub(crate) fn marks(stages: &Stages) -> Vec<BackfillMark> {
    let marks = stages.iter().filter_map(|(to, stage)| {
        let (id, after) = match stage {
            Stage::Wanted => (None, None),
            Stage::Asked(before) => (None, Some(before.clone())),
            Stage::Started(id) => (Some(id.clone()), None),
        };
        Some(BackfillMark {
            destination: destination(to)?,
            id,
            after,
        })
    });
    marks.collect()
}

pub(crate) fn recorded(marks: &[BackfillMark]) -> Stages {
    let stages = marks.iter().map(|mark| {
        let stage = match (&mark.id, &mark.after) {
            (Some(id), _) => Stage::Started(id.clone()),
            (None, Some(before)) => Stage::Asked(before.clone()),
            (None, None) => Stage::Wanted,
        };
        (super::parts::place(&mark.destination), stage)
    });
    stages.collect()
}

/// Whether the backfill that a status tells of is over.
pub(crate) fn is_over(status: &BackfillStatus) -> bool {
    status.ended_at.is_some() || is_final(&status.state)
}

/// Whether what ECR knows has to be read to tell how the backfill of a destination stands.
pub(crate) fn is_open(to: &Place, stage: &Stage, earlier: &[BackfillStatus]) -> bool {
    let Stage::Started(id) = stage else { return true };
    !earlier.iter().any(|told| is_of(told, to, id) && is_over(told))
}

fn is_of(told: &BackfillStatus, to: &Place, id: &str) -> bool {
    super::parts::place(&told.destination) == *to && told.id.as_deref() == Some(id)
}

/// What is told of the backfills of an object's destinations. `known` is empty where nothing had to be read.
pub(crate) fn told(
    stages: &Stages,
    of: &BTreeSet<Place>,
    known: &[Backfill],
    unsent: &BTreeMap<String, Vec<Unsent>>,
    earlier: &[BackfillStatus],
) -> Vec<BackfillStatus> {
    let one = |to: &Place| {
        let mut of_place = earlier
            .iter()
            .filter(|told| super::parts::place(&told.destination) == *to);
        let last = of_place.next().filter(|told| is_over(told));
        match stages.get(to) {
            None => last.cloned(),
            Some(Stage::Wanted | Stage::Asked(_)) => waiting(to),
            Some(Stage::Started(id)) => match known.iter().find(|backfill| backfill.id == *id) {
                _ if last.is_some_and(|last| is_of(last, to, id)) => last.cloned(),
                Some(backfill) => shown(backfill, unsent.get(id).map_or(&[], Vec::as_slice)),
                // ECR has forgotten it.
                None => last.cloned(),
            },
        }
    };
    of.iter().filter_map(one).collect()
}

fn waiting(to: &Place) -> Option<BackfillStatus> {
    Some(BackfillStatus {
        destination: destination(to)?,
        state: WAITING.to_owned(),
        id: None,
        total: 0,
        complete: 0,
        failed: 0,
        failure_code: None,
        examples: Vec::new(),
        started_at: None,
        ended_at: None,
    })
}

fn shown(backfill: &Backfill, unsent: &[Unsent]) -> Option<BackfillStatus> {
    Some(BackfillStatus {
        destination: destination(&backfill.to)?,
        state: limited(&backfill.state, 64),
        id: Some(backfill.id.clone()),
        total: backfill.total,
        complete: backfill.complete,
        failed: backfill.failed,
        failure_code: backfill.failure_code.as_deref().map(|code| limited(code, 256)),
        examples: unsent.iter().take(usize::from(EXAMPLES)).map(example).collect(),
        started_at: Some(backfill.started_at),
        ended_at: backfill.ended_at,
    })
}

/// How many images are named that have not arrived.
pub(crate) const EXAMPLES: u8 = 5;

fn example(unsent: &Unsent) -> ImageOnItsWay {
    ImageOnItsWay {
        repository: limited(&unsent.repository, 256),
        image: limited(&unsent.image, 300),
        failure_code: unsent.code.as_deref().map(|code| limited(code, 256)),
    }
}

/// A text as a status takes it.
pub(crate) fn limited(text: &str, most: usize) -> String {
    let mut text = text.to_owned();
    cut(&mut text, most);
    text
}

/// How soon to look again at those that are not over: often where they have just begun, and less and less often, for they may
/// take hours. `None` where all are over.
pub(crate) fn pause(told: &[BackfillStatus], now: Timestamp) -> Option<Duration> {
    let open = told.iter().filter(|one| !is_over(one));
    let pauses = open.map(|one| match one.started_at {
        Some(at) => Duration::try_from(now.duration_since(at))
            .unwrap_or_default()
            .div_f64(4.0)
            .clamp(SHORTEST, LONGEST),
        None => WAITS,
    });
    pauses.min()
}

/// How soon a backfill that is not over is looked at, and one that waits for others.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(1);
const WAITS: Duration = Duration::from_secs(10);

/// Whether it is over and did not send everything.
fn has_failed(told: &BackfillStatus) -> bool {
    is_over(told) && (told.failed > 0 || told.state == "FAILED")
}

/// How a backfill stands, as metrics tell it.
pub(crate) fn state(told: &BackfillStatus) -> BackfillState {
    match told.state.as_str() {
        _ if has_failed(told) => BackfillState::Failed,
        WAITING => BackfillState::Waiting,
        "STOPPED" => BackfillState::Stopped,
        _ if is_over(told) => BackfillState::Complete,
        _ => BackfillState::InProgress,
    }
}

/// What went wrong with the last backfill of each destination; empty where nothing did.
pub(crate) fn trouble(told: &[BackfillStatus]) -> String {
    let failed = told.iter().filter(|one| has_failed(one));
    let sentences = failed.map(|one| {
        let to = &one.destination;
        let what = format!("the backfill to {} in {}", to.registry_id, to.region);
        match (&one.failure_code, one.state.as_str()) {
            (Some(code), "FAILED") => format!("{what} has failed: {code}"),
            (None, "FAILED") => format!("{what} has failed"),
            _ => format!("{what} has left out {} of {} images", one.failed, one.total),
        }
    });
    let mut whole = sentences.collect::<Vec<_>>().join("; ");
    cut(&mut whole, 900);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(region: &str) -> Place {
        Place {
            region: region.into(),
            registry_id: "111122223333".into(),
        }
    }

    fn backfill(id: &str, region: &str, state: &str, second: i64) -> Backfill {
        Backfill {
            id: id.into(),
            to: to(region),
            state: state.into(),
            failure_code: None,
            total: 4,
            complete: 3,
            failed: u32::from(state == "FAILED"),
            started_at: jiff::Timestamp::from_second(second).unwrap(),
            ended_at: None,
        }
    }

    fn decide(stage: Stage, known: &[Backfill]) -> Moves {
        let stages = Stages::from([(to("us-east-1"), stage)]);
        moves(&stages, &BTreeSet::from([to("us-east-1")]), known)
    }

    fn starts(moves: &Moves) -> bool {
        moves.start.contains(&to("us-east-1"))
    }

    #[test]
    fn what_was_started_is_never_started_again() {
        let over = [backfill("a", "us-east-1", "COMPLETE", 1)];
        assert!(decide(Stage::Started("a".into()), &over).is_empty());
        assert!(
            decide(Stage::Started("a".into()), &[]).is_empty(),
            "ECR has forgotten it"
        );
    }

    #[test]
    fn after_an_answer_that_was_lost_what_came_since_is_taken_for_ours() {
        let old = backfill("a", "us-east-1", "COMPLETE", 7);
        let asked = Stage::Asked(before(std::slice::from_ref(&old), &to("us-east-1")));
        assert!(
            starts(&decide(asked.clone(), std::slice::from_ref(&old))),
            "it was never carried out"
        );
        // Within the same second, too, and if it is over already.
        for (second, state) in [(7, "COMPLETE"), (7, "PREPARING"), (8, "IN_PROGRESS")] {
            let new = backfill("b", "us-east-1", state, second);
            let moves = decide(asked.clone(), &[old.clone(), new]);
            assert_eq!(moves.found.get(&to("us-east-1")).map(String::as_str), Some("b"));
            assert!(!starts(&moves));
        }
        let elsewhere = backfill("c", "eu-north-1", "COMPLETE", 9);
        assert!(starts(&decide(asked, &[old, elsewhere])));
    }

    #[test]
    fn one_that_is_wanted_waits_for_what_runs_to_its_region_and_takes_nothing_for_its_own() {
        assert!(starts(&decide(Stage::Wanted, &[])));
        let running = backfill("a", "us-east-1", "IN_PROGRESS", 1);
        assert!(decide(Stage::Wanted, &[running]).is_empty());
        let over = backfill("a", "us-east-1", "STOPPED", 1);
        assert!(starts(&decide(Stage::Wanted, &[over])));
    }

    #[test]
    fn no_more_are_started_than_ecr_runs() {
        let places: BTreeSet<Place> = (0..12).map(|n| to(&format!("us-east-{n}"))).collect();
        let stages = places.iter().map(|to| (to.clone(), Stage::Wanted)).collect();
        assert_eq!(moves(&stages, &places, &[]).start.len(), 10);
        let running = backfill("a", "eu-north-1", "PREPARING", 1);
        assert_eq!(moves(&stages, &places, &[running]).start.len(), 9);
        let none = BTreeSet::new();
        assert!(moves(&stages, &none, &[]).is_empty(), "those of another object");
    }

    #[test]
    fn two_registries_in_one_region_are_served_one_after_the_other() {
        let other = Place {
            registry_id: "444455556666".into(),
            ..to("us-east-1")
        };
        let places = BTreeSet::from([to("us-east-1"), other]);
        let stages = places.iter().map(|to| (to.clone(), Stage::Wanted)).collect();
        assert_eq!(moves(&stages, &places, &[]).start.len(), 1);
    }

    #[test]
    fn what_runs_for_long_is_looked_at_less_often() {
        let now = Timestamp::from_second(10_000).unwrap();
        let after = |seconds: i64, state: &str| {
            let one = backfill("a", "us-east-1", state, 10_000 - seconds);
            let stages = Stages::from([(to("us-east-1"), Stage::Started("a".into()))]);
            let of = BTreeSet::from([to("us-east-1")]);
            let pause = pause(&told(&stages, &of, &[one], &BTreeMap::new(), &[]), now);
            pause.map(|pause| pause.as_secs())
        };
        assert_eq!(after(1, "PREPARING"), Some(2));
        assert_eq!(after(100, "IN_PROGRESS"), Some(25));
        assert_eq!(after(3_600, "IN_PROGRESS"), Some(60));
        assert_eq!(after(3_600, "COMPLETE"), None);
    }

    #[test]
    fn metrics_tell_of_one_that_left_out_images_that_it_has_failed() {
        let stands = |ecr: &str, failed: u32| {
            let one = Backfill {
                failed,
                ..backfill("a", "us-east-1", ecr, 1)
            };
            state(&shown(&one, &[]).unwrap())
        };
        for (ecr, failed, expected) in [
            ("PREPARING", 0, BackfillState::InProgress),
            // It may go on for hours, and is told of when it is over.
            ("IN_PROGRESS", 1, BackfillState::InProgress),
            ("STOPPING", 0, BackfillState::InProgress),
            ("STOPPED", 0, BackfillState::Stopped),
            ("STOPPED", 1, BackfillState::Failed),
            ("COMPLETE", 0, BackfillState::Complete),
            ("COMPLETE", 1, BackfillState::Failed),
            ("FAILED", 0, BackfillState::Failed),
        ] {
            assert_eq!(stands(ecr, failed), expected, "{ecr} {failed}");
        }
        assert_eq!(state(&waiting(&to("us-east-1")).unwrap()), BackfillState::Waiting);
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let known = [backfill("a", "us-east-1", "COMPLETE", 7)];
        let stages = Stages::from([
            (to("us-east-1"), Stage::Asked(before(&known, &to("us-east-1")))),
            (to("us-east-2"), Stage::Asked(before(&known, &to("us-east-2")))),
            (to("eu-north-1"), Stage::Wanted),
            (to("eu-west-2"), Stage::Started("b".into())),
        ]);
        assert_eq!(recorded(&marks(&stages)), stages);
    }

    #[test]
    fn what_was_told_to_be_over_stays_told_and_costs_no_look() {
        let place = to("us-east-1");
        let of = BTreeSet::from([place.clone()]);
        let stages = Stages::from([(place.clone(), Stage::Started("a".into()))]);
        let none = BTreeMap::new();
        let runs = told(
            &stages,
            &of,
            &[backfill("a", "us-east-1", "IN_PROGRESS", 1)],
            &none,
            &[],
        );
        assert_eq!(
            (runs[0].state.as_str(), runs[0].total, runs[0].complete),
            ("IN_PROGRESS", 4, 3)
        );
        assert!(is_open(&place, &stages[&place], &runs));
        let unsent = Unsent {
            repository: "r".into(),
            image: "sha256:1".into(),
            code: Some("Denied".into()),
        };
        let unsent = BTreeMap::from([("a".to_owned(), vec![unsent])]);
        let over = told(&stages, &of, &[backfill("a", "us-east-1", "FAILED", 1)], &unsent, &runs);
        assert_eq!(over[0].examples.len(), 1);
        assert!(!is_open(&place, &stages[&place], &over));
        assert_eq!(told(&stages, &of, &[], &none, &over), over);
        assert_eq!(trouble(&over), "the backfill to 111122223333 in us-east-1 has failed");
        // The next change asks for another.
        let wanted = Stages::from([(place.clone(), Stage::Wanted)]);
        let waits = told(&wanted, &of, &[], &none, &over);
        assert_eq!(waits[0].state, "Waiting");
        assert!(is_open(&place, &wanted[&place], &waits) && trouble(&waits).is_empty());
    }
}
