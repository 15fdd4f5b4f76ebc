//! Repositories beside registries that do not answer.
//!
//! Those take calls and never answer them, so that each call ends by the operator's own limit of time: a refusal would be over
//! at once and hold nothing up. Of ECR alone: the tokens of the roles come from STS, which goes on.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use bed::{Effect, Fault};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::super::figures::{Figures, rounded};
use super::super::measured::Measured;
use super::super::objects::{self, Collection, Seen, Sum, Watch, lack};
use super::super::phases::generous;
use super::super::say;
use super::super::stage::{NAMESPACE, Purpose, Stage};
use super::super::usage::Usage;
use super::Settings;
use super::places::{self, Place};

/// When the registries stop answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// The operator has claimed them and comes to them with new objects.
    OnceClaimed,
    /// Before the operator is started that is to claim them.
    AtStart,
}

/// What one run came to.
struct Run {
    figures: Figures,
    /// How many Repositories of registries that answer are Ready.
    ready: usize,
    /// How many calls the registries took that do not answer.
    unanswered: u64,
    usage: Usage,
}

/// The objects of registries that answer in both runs, and of the others.
const ANSWERS: &str = "bench.ecr-operator.dev/answers";

/// The same with all registries answering and with some that do not.
pub(super) async fn measure(settings: &Settings, program: &Path, outage: Outage) -> Result<(Measured, Usage)> {
    say("all registries answer");
    let all = run(settings, program, outage, false).await?;
    say(&format!(
        "{} of {} registries do not answer",
        settings.down, settings.registries
    ));
    let some = run(settings, program, outage, true).await?;
    let (usual, slowed) = (all.figures.seconds, some.figures.seconds);
    let count = (settings.registries - settings.down) * settings.repositories;
    let measured = Measured {
        count,
        figures: some.figures,
    };
    let measured = measured
        .with("registries", settings.registries)
        .with("down", settings.down)
        .with("seconds_all_answering", rounded(usual))
        .with("aws_calls_all_answering", all.figures.total_calls())
        .with("ratio", rounded(slowed / usual))
        .with("calls_unanswered", some.unanswered)
        .with("ready", some.ready);
    Ok((measured, all.usage.and(some.usage)))
}

async fn run(settings: &Settings, program: &Path, outage: Outage, silence_some: bool) -> Result<Run> {
    let places = Place::some(settings.registries);
    // Which are waited for is the same whether the others answer or not.
    let (down, up) = places.split_at(settings.down as usize);
    let silent = if silence_some { down } else { &[] };
    let manifests = manifests(&places, settings.down, settings.repositories);
    let limit = generous(u32::try_from(manifests.len())?);
    let expected = up.len() * settings.repositories as usize;
    let mut stage = Stage::start(program.to_owned(), Purpose::Registries, &[], settings.rtt()).await?;
    let mut watch = Watch::of(&stage.client, Collection::repositories(&format!("{ANSWERS}=yes")), lack).await?;
    let repositories = objects::api(&stage.client);
    let faults;
    let (before, start) = match outage {
        Outage::OnceClaimed => {
            places::open(&stage, &places).await?;
            faults = silence(&stage, silent).await?;
            (stage.reading().await?, Instant::now())
        }
        Outage::AtStart => {
            stage.stop().await?;
            places::apply(&stage, &places).await?;
            objects::create(&repositories, &manifests).await?;
            faults = silence(&stage, silent).await?;
            (stage.reading().await?, Instant::now())
        }
    };
    let beginning = async {
        match outage {
            Outage::OnceClaimed => objects::create(&repositories, &manifests).await,
            Outage::AtStart => stage.start_operator(&[]).await,
        }
    };
    let waiting = async {
        let all = |seen: &Sum| seen.ready() == expected;
        if silence_some {
            watch.within(limit, all).await?;
        } else {
            watch.until(limit, "all Repositories to be Ready", all).await?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let ((), seconds) = tokio::try_join!(beginning, waiting)?;
    let figures = Figures::between(&before, &stage.reading().await?);
    let unanswered = unanswered(&stage, &faults).await?;
    let ready = watch.seen().ready();
    as_said(&stage, up, silent, (settings.repositories, ready)).await?;
    // What is held up would hold the end up, too.
    stage.aws.remove_faults().await?;
    Ok(Run {
        figures: Figures { seconds, ..figures },
        ready,
        unanswered,
        usage: stage.end().await?,
    })
}

/// The Repositories, one of each registry after the other, so that those which are worked on at once are of all.
fn manifests(places: &[Place], down: u32, each: u32) -> Vec<Value> {
    let of_all = |number: u32| {
        let of_one = move |(turn, place): (u32, &Place)| {
            let answers = if turn < down { "no" } else { "yes" };
            json!({
                "apiVersion": "ecr-operator.dev/v1alpha1",
                "kind": "Repository",
                "metadata": {
                    "name": format!("{}-app-{number:03}", place.name),
                    "namespace": NAMESPACE,
                    "labels": { ANSWERS: answers },
                },
                "spec": objects::usual_spec_in(&place.name, &place.account),
            })
        };
        (0..).zip(places).map(of_one)
    };
    (0..each).flat_map(of_all).collect()
}

/// Lets ECR take calls to these registries and answer none.
async fn silence(stage: &Stage, places: &[Place]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for place in places {
        let hold = Fault::new("ecr:*", Effect::Hold).registry(&place.account, place.region);
        faults.push(stage.aws.inject(&hold).await?);
    }
    Ok(faults)
}

/// How many calls were taken by the registries that do not answer. Without one, nothing was measured.
async fn unanswered(stage: &Stage, faults: &[String]) -> Result<u64> {
    let mut all = 0;
    for fault in faults {
        all += stage.aws.fault(fault).await?.injected;
    }
    ensure!(
        faults.is_empty() || all > 0,
        "the registries that do not answer were never called"
    );
    Ok(all)
}

/// Ready is what the operator says; this is what ECR says, where each registry is to have so many repositories. And nobody says
/// it of the others.
async fn as_said(stage: &Stage, up: &[Place], silent: &[Place], (each, ready): (u32, usize)) -> Result<()> {
    let mut found = 0;
    for place in up {
        // The claim is a repository, too.
        found += places::repositories(stage, place).await?.saturating_sub(1);
    }
    // One that is not Ready may have been created.
    ensure!(
        found >= ready && found <= up.len() * each as usize,
        "{ready} objects are Ready, and ECR has {found} repositories"
    );
    // Read from the store, not seen by a watch: one that shows nothing new may have nothing behind it any more.
    let (all, ready) = others(stage).await?;
    ensure!(
        silent.is_empty() || (all == silent.len() * each as usize && ready == 0),
        "of {all} Repositories in registries that do not answer, {ready} are Ready"
    );
    Ok(())
}

/// How many Repositories of the other registries there are, and how many of them are Ready.
async fn others(stage: &Stage) -> Result<(usize, usize)> {
    let labels = ListParams::default().labels(&format!("{ANSWERS}=no"));
    let (mut all, mut ready) = (0, 0);
    for object in objects::api(&stage.client).list(&labels).await? {
        let seen: Seen = serde_json::from_value(serde_json::to_value(object)?)?;
        all += 1;
        ready += usize::from(lack(&seen).is_none());
    }
    Ok((all, ready))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn those_that_are_worked_on_at_once_are_of_all_registries_and_the_same_are_waited_for() {
        let places = Place::some(20);
        let all = manifests(&places, 5, 3);
        assert_eq!(all.len(), 60);
        let names: BTreeSet<&str> = all.iter().filter_map(|one| one["metadata"]["name"].as_str()).collect();
        assert_eq!(names.len(), 60);
        for turn in all.chunks(20) {
            let of: BTreeSet<&str> = turn
                .iter()
                .filter_map(|one| one["spec"]["registryRef"]["name"].as_str())
                .collect();
            assert_eq!(of.len(), 20);
        }
        let (down, up) = places.split_at(5);
        for (answers, places) in [("no", down), ("yes", up)] {
            let labelled = all.iter().filter(|one| one["metadata"]["labels"][ANSWERS] == answers);
            let of: BTreeSet<&str> = labelled
                .filter_map(|one| one["spec"]["registryRef"]["name"].as_str())
                .collect();
            assert_eq!(of, places.iter().map(|place| place.name.as_str()).collect());
        }
    }
}
