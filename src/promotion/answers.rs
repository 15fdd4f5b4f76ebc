//! Requests of people, answered in the status. An answer is entered once, together with what it brings about.

use jiff::Timestamp;

use super::{
    engine::{Asked, Back, go_back, record},
    facts::Facts,
    ledger::{self, Start, spoken},
    moves::{Look, Move, Told},
    request::Request,
    targets,
};
use crate::{
    api::{
        names::Digest,
        promotion::{
            Actor, Approval, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, RolloutKind, Until,
        },
    },
    control::events::cut,
};

/// How many approvals are kept.
const APPROVALS: usize = 20;

/// The longest answer.
const ANSWER: usize = 1_000;

/// Answers a request, or looks first at what it names.
pub(super) fn answer(
    spec: &ImagePromotionSpec,
    status: &ImagePromotionStatus,
    facts: &Facts,
    (name, value, request): &Asked,
    now: Timestamp,
) -> Move {
    let mut desk = Desk {
        spec,
        facts,
        status: status.clone(),
        now,
    };
    desk.status
        .last_handled_requests
        .insert((*name).to_owned(), value.clone());
    match request {
        Err(wrong) => desk.say(format!("the request {name} was not understood: {wrong}")),
        Ok(Request::Approve { digest, by }) => desk.approve(digest, by),
        Ok(Request::Resume) => desk.resume(),
        Ok(Request::Promote { image: None, .. }) => desk.go_on(),
        Ok(Request::Promote {
            image: Some(image),
            reason,
        }) => desk.promote(&image.to_string(), reason),
        Ok(Request::Rollback { digest, reason }) => desk.roll_back(digest.as_ref(), reason),
        Ok(Request::Pin { digest, reason }) => desk.pin(digest.as_ref(), reason),
        Ok(Request::Reject { digest, reason }) => desk.reject(digest, reason),
    }
}

struct Desk<'a> {
    spec: &'a ImagePromotionSpec,
    facts: &'a Facts,
    status: ImagePromotionStatus,
    now: Timestamp,
}

impl Desk<'_> {
    fn say(mut self, answer: impl Into<String>) -> Move {
        let answer = self.note(answer);
        record(
            self.status,
            [Told {
                is_warning: false,
                reason: "Answered",
                note: answer,
            }],
        )
    }

    fn note(&mut self, answer: impl Into<String>) -> String {
        let mut answer = answer.into();
        cut(&mut answer, ANSWER);
        self.status.last_answer = Some(answer.clone());
        answer
    }

    /// What the targets run, or are to run.
    fn running(&self) -> Option<ImageStatus> {
        let under_way = self.status.rollout.as_ref().map(|rollout| rollout.image.clone());
        under_way.or_else(|| self.status.current.clone())
    }

    fn approve(mut self, digest: &Digest, by: &str) -> Move {
        if ledger::is_rejected(self.spec, &self.status, digest) {
            return self.say(format!("{} is rejected and cannot be approved", digest.short()));
        }
        let approvals = &mut self.status.approvals;
        approvals.retain(|approval| (&approval.digest, approval.by.as_str()) != (digest, by));
        let mut by = by.to_owned();
        cut(&mut by, 253);
        let answer = format!("{by} approves {}", digest.short());
        approvals.insert(
            0,
            Approval {
                digest: digest.clone(),
                by,
                at: self.now,
            },
        );
        approvals.truncate(APPROVALS);
        self.say(answer)
    }

    fn resume(mut self) -> Move {
        targets::forgive(&mut self.status.targets);
        self.status.requested = None;
        match self.status.hold.take() {
            Some(hold) => self.say(format!("the hold is ended; it was: {}", hold.reason)),
            None => self.say("there is no hold; contested targets are tried again"),
        }
    }

    fn go_on(mut self) -> Move {
        targets::forgive(&mut self.status.targets);
        self.status.hold = None;
        match self.status.candidate.clone() {
            Some(candidate) => self.say(format!(
                "{} is rolled out once its gates let it through",
                spoken(&candidate)
            )),
            None => self.say("the policy picks no image now; the next one is rolled out once its gates let it through"),
        }
    }

    fn promote(mut self, wanted: &str, reason: &str) -> Move {
        let image = match &self.facts.named {
            Some((name, image)) if name == wanted => image.clone(),
            _ => return Move::Look(Look::Named(wanted.to_owned())),
        };
        let Some(image) = image else {
            return self.say(format!("the repository has no image {wanted}"));
        };
        if self.spec.reject.iter().any(|entry| entry.digest == image.digest) {
            return self.say(format!("spec.reject forbids {}", spoken(&image)));
        }
        if self.spec.pin.is_some() {
            return self.say("spec.pin decides which image runs; remove it first");
        }
        targets::forgive(&mut self.status.targets);
        self.status
            .rejected
            .retain(|rejection| rejection.digest != image.digest);
        self.status.hold = None;
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        let answer = format!("{} is rolled out once its gates let it through{why}", spoken(&image));
        self.status.requested = Some(image);
        self.say(answer)
    }

    fn roll_back(mut self, digest: Option<&Digest>, reason: &str) -> Move {
        if self.spec.pin.is_some() {
            return self.say("spec.pin decides which image runs; change it instead");
        }
        let Some(running) = self.running() else {
            return self.say("nothing was rolled out yet");
        };
        let to = match digest {
            Some(digest) => ledger::known(&self.status, digest),
            None => ledger::good_before(self.spec, &self.status, &running.digest),
        };
        let to = match (to, digest) {
            (Some(to), _) if to.digest == running.digest => {
                return self.say(format!("{} runs already", spoken(&to)));
            }
            (Some(to), _) => to,
            (None, Some(digest)) => {
                let answer = format!(
                    "this promotion has not run {}; ask for it with the request promote",
                    digest.short()
                );
                return self.say(answer);
            }
            (None, None) => return self.say("there is no earlier good image to go back to"),
        };
        self.status.rejected.retain(|rejection| rejection.digest != to.digest);
        let reason = if reason.is_empty() {
            "it was asked for by request"
        } else {
            reason
        };
        self.back(&running, to, reason)
    }

    fn back(mut self, from: &ImageStatus, to: ImageStatus, reason: &str) -> Move {
        match &self.facts.presence {
            Some((digest, super::facts::Presence::Archived | super::facts::Presence::Gone)) if *digest == to.digest => {
                return self.say(format!(
                    "{} is archived or gone from the repository: the targets stay as they are",
                    spoken(&to)
                ));
            }
            _ => {}
        }
        self.note(format!("going back to {}", spoken(&to)));
        let back = Back {
            from,
            to,
            reason: reason.to_owned(),
            by: Actor::Request,
            rollout: None,
        };
        go_back(self.spec, self.facts, self.status, back, self.now)
    }

    fn pin(mut self, digest: Option<&Digest>, reason: &str) -> Move {
        if self.spec.pin.is_some() {
            return self.say("spec.pin decides which image runs; change it instead");
        }
        let running = self.running();
        let reason = if reason.is_empty() {
            "it was pinned by request"
        } else {
            reason
        };
        let wanted = digest.or(running.as_ref().map(|image| &image.digest)).cloned();
        let Some(wanted) = wanted else {
            return self.say("nothing was rolled out yet; name the image to pin");
        };
        if self.spec.reject.iter().any(|entry| entry.digest == wanted) {
            return self.say(format!("spec.reject forbids {}", wanted.short()));
        }
        if running.as_ref().is_some_and(|image| image.digest == wanted) {
            ledger::hold(
                &mut self.status,
                HoldKind::Pinned,
                None,
                reason.to_owned(),
                Until::Resume,
                self.now,
            );
            return self.say(format!("{} stays until the request resume: {reason}", wanted.short()));
        }
        let image = match (ledger::known(&self.status, &wanted), &self.facts.named) {
            (Some(image), _) => image,
            (None, Some((name, image))) if name == wanted.as_str() => match image.clone() {
                Some(image) => image,
                None => return self.say(format!("the repository has no image {wanted}")),
            },
            (None, _) => return Move::Look(Look::Named(wanted.to_string())),
        };
        self.status
            .rejected
            .retain(|rejection| rejection.digest != image.digest);
        ledger::hold(
            &mut self.status,
            HoldKind::Pinned,
            None,
            reason.to_owned(),
            Until::Resume,
            self.now,
        );
        self.note(format!(
            "{} is rolled out and stays until the request resume",
            spoken(&image)
        ));
        let start = Start {
            kind: RolloutKind::Pin,
            image,
            reason: reason.to_owned(),
            by: Actor::Request,
            failure: None,
            spec: self.spec,
            now: self.now,
        };
        let told = ledger::start(&mut self.status, start);
        record(self.status, [told])
    }

    fn reject(mut self, digest: &Digest, reason: &str) -> Move {
        let reason = if reason.is_empty() {
            "it was rejected by request"
        } else {
            reason
        };
        let running = self.running();
        if let Some(running) = running.filter(|image| image.digest == *digest && self.spec.pin.is_none())
            && let Some(good) = ledger::good_before(self.spec, &self.status, digest)
        {
            return self.back(&running, good, reason);
        }
        let image = ledger::known(&self.status, digest)
            .or_else(|| self.status.candidate.clone().filter(|image| image.digest == *digest))
            .unwrap_or_else(|| ledger::nameless(digest.clone()));
        ledger::reject(&mut self.status, &image, reason, Actor::Request, self.now);
        if self
            .status
            .requested
            .as_ref()
            .is_some_and(|asked| asked.digest == *digest)
        {
            self.status.requested = None;
        }
        let runs = self.running().is_some_and(|image| image.digest == *digest);
        match runs {
            true => self.say(format!(
                "{} is rejected; it runs now and there is no earlier good image to go back to, so the targets stay as they are",
                spoken(&image)
            )),
            false => self.say(format!("{} is rejected and is not rolled out", spoken(&image))),
        }
    }
}
