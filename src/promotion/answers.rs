//! Requests of people, answered in the status. An answer is entered once, together with what it brings about.

use jiff::Timestamp;

use super::{
    back::{Back, Way, go_back, stay, way},
    engine::record,
    facts::Facts,
    ledger::{self, Start, spoken},
    moves::{Look, Move, Told},
    targets,
};
use crate::{
    api::{
        names::Digest,
        promotion::{
            Actor, Approval, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, RolloutKind, Until,
            request::{Asked, Request},
        },
    },
    control::events::cut,
};

/// How many approvals are kept.
const APPROVALS: usize = 20;

/// The answer to whoever asks for another image than the pinned one.
const PINNED: &str = "spec.pin decides which image runs; change it, or remove it first";

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
        if self.spec.pin.is_some() {
            return self.say(PINNED);
        }
        targets::forgive(&mut self.status.targets);
        self.status.hold = None;
        self.status.requested = None;
        self.say("the image that the policy picks is rolled out once its gates let it through")
    }

    fn promote(mut self, wanted: &str, reason: &str) -> Move {
        let image = match &self.facts.named {
            Some((name, image)) if name == wanted => image.clone(),
            _ => return Move::Look(Look::Named(wanted.to_owned())),
        };
        let image = match image {
            Ok(image) => image,
            Err(why) => return self.say(why),
        };
        if ledger::is_forbidden(self.spec, &image.digest) {
            return self.say(format!("spec.reject forbids {}", spoken(&image)));
        }
        if self.spec.pin.as_ref().is_some_and(|pin| pin.digest != image.digest) {
            return self.say(PINNED);
        }
        targets::forgive(&mut self.status.targets);
        self.allow(&image.digest);
        self.status.hold = None;
        let is_good = self
            .status
            .last_good
            .as_ref()
            .is_some_and(|good| good.digest == image.digest);
        let is_under_way = self.status.rollout.is_some();
        match self.running() {
            Some(running) if running.digest == image.digest && (is_good || is_under_way) => {
                self.status.requested = None;
                let how = if is_under_way { "is being rolled out" } else { "runs" };
                self.say(format!("{} {how} already", spoken(&image)))
            }
            _ => {
                let after = if is_under_way {
                    "the rollout under way has ended and "
                } else {
                    ""
                };
                let why = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {reason}")
                };
                let answer = format!(
                    "{} is rolled out once {after}its gates let it through{why}",
                    spoken(&image)
                );
                self.status.requested = Some(image).filter(|_| self.spec.pin.is_none());
                self.say(answer)
            }
        }
    }

    /// What was taken back may run again.
    fn allow(&mut self, digest: &Digest) {
        self.status.rejected.retain(|rejection| rejection.digest != *digest);
    }

    fn roll_back(mut self, digest: Option<&Digest>, reason: &str) -> Move {
        if self.spec.pin.is_some() {
            return self.say(PINNED);
        }
        let Some(running) = self.running() else {
            return self.say("nothing was rolled out yet");
        };
        let goes_back = self
            .status
            .rollout
            .as_ref()
            .filter(|it| it.kind == RolloutKind::Rollback);
        if let (Some(rollout), None) = (goes_back, digest) {
            // Two people who see the same failure do not want to go back twice.
            let answer = format!("going back to {} already", spoken(&rollout.image));
            return self.say(answer);
        }
        if let Some(forbidden) = digest.filter(|digest| ledger::is_forbidden(self.spec, digest)) {
            let answer = format!("spec.reject forbids {}", forbidden.short());
            return self.say(answer);
        }
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
        self.allow(&to.digest);
        let reason = if reason.is_empty() {
            "it was asked for by request"
        } else {
            reason
        };
        self.back(&running, to, reason)
    }

    fn back(mut self, from: &ImageStatus, to: ImageStatus, reason: &str) -> Move {
        match way(self.facts, &to) {
            Way::Unknown(look) => return Move::Look(look),
            Way::Shut(why) => return self.say(format!("{why}: the targets stay as they are")),
            Way::Open => {}
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
            return self.say(PINNED);
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
        if ledger::is_forbidden(self.spec, &wanted) {
            return self.say(format!("spec.reject forbids {}", wanted.short()));
        }
        if running.as_ref().is_some_and(|image| image.digest == wanted) {
            self.status.requested = None;
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
                Ok(image) => image,
                Err(why) => return self.say(why),
            },
            (None, _) => return Move::Look(Look::Named(wanted.to_string())),
        };
        self.allow(&image.digest);
        self.status.requested = None;
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

    fn reject(self, digest: &Digest, reason: &str) -> Move {
        let reason = if reason.is_empty() {
            "it was rejected by request"
        } else {
            reason
        };
        if self.spec.pin.as_ref().is_some_and(|pin| pin.digest == *digest) {
            return self.say(format!("spec.pin asks for {}; change it first", digest.short()));
        }
        let running = self.running().filter(|image| image.digest == *digest);
        let good = ledger::good_before(self.spec, &self.status, digest);
        match (running, good) {
            (Some(running), Some(good)) => match way(self.facts, &good) {
                Way::Unknown(look) => Move::Look(look),
                Way::Open => self.back(&running, good, reason),
                Way::Shut(why) => self.leave(&running, reason, &why),
            },
            (Some(running), None) => self.leave(&running, reason, "there is no earlier good image to go back to"),
            (None, _) => self.forbid(digest, reason),
        }
    }

    /// The image that runs, or is being rolled out, is rejected, and there is no way back.
    fn leave(mut self, running: &ImageStatus, reason: &str, why: &str) -> Move {
        let name = spoken(running);
        self.note(format!("{name} is rejected; {why}, so the targets stay as they are"));
        let reason = format!("{reason}; {why}");
        stay(self.spec, self.status, running, &reason, Actor::Request, self.now)
    }

    fn forbid(mut self, digest: &Digest, reason: &str) -> Move {
        let is = |image: &ImageStatus| image.digest == *digest;
        let image = ledger::known(&self.status, digest)
            .or_else(|| self.status.candidate.clone().filter(is))
            .unwrap_or_else(|| ledger::nameless(digest.clone()));
        ledger::reject(self.spec, &mut self.status, &image, reason, Actor::Request, self.now);
        self.status.requested = self.status.requested.take().filter(|asked| !is(asked));
        self.say(format!("{} is rejected and is not rolled out", spoken(&image)))
    }
}
