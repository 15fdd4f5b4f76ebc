//! What became of a policy, from what its Repositories say of themselves. Pure.

use std::cmp::Reverse;

use crate::{
    api::{
        lifecycle::{AppliedLifecycle, LifecyclePolicyStatus, PolicyLine},
        repository::RepositoryStatus,
    },
    control::{
        events::cut,
        plan::{Plan, Verdict},
        reason::Reason,
    },
    controllers::repository::cleanup::Wish,
};

/// The most Repositories that a status shows.
const WORST: usize = 20;

/// A Repository that the policy means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub standing: Standing,
    pub shown: PolicyLine,
    pub bytes: u64,
}

/// How the policy stands on a Repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Blocked(Reason),
    Pending,
    /// Shown, and not to be put.
    Previewed,
    Applied,
    Overruled,
}

/// What a policy does everywhere, and whether it is one that can be put at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub lines: Vec<Line>,
    pub invalid: Option<String>,
}

/// The Repository's line. `wish`: what the policies want of it now; `ours`: whether this policy is the one that applies.
pub(crate) fn line(repository: String, wish: &Wish, by: &str, status: Option<&RepositoryStatus>) -> Line {
    let recorded = status
        .and_then(|status| status.lifecycle_policy.clone())
        .unwrap_or_default();
    let (standing, reason, message) = match wish {
        Wish::Unclaimed => (Standing::Pending, String::new(), String::new()),
        Wish::Held {
            by: holder,
            verdict: None,
        } if holder == by => (Standing::Pending, Reason::Suspended.as_str().to_owned(), String::new()),
        Wish::Held {
            by: holder,
            verdict: Some(verdict),
        } if holder == by || holder.is_empty() => (
            Standing::Blocked(verdict.reason()),
            verdict.reason().as_str().to_owned(),
            match verdict {
                Verdict::Blocked { message, .. } => message.clone(),
                verdict => verdict.to_string(),
            },
        ),
        Wish::Claimed(claim) if claim.by == by => claimed(wish, &recorded, status),
        Wish::Held { by: other, .. } => (Standing::Overruled, String::new(), format!("{other} comes first")),
        Wish::Claimed(claim) => (Standing::Overruled, String::new(), format!("{} comes first", claim.by)),
    };
    let preview = recorded.preview.filter(|_| recorded.policy == by).unwrap_or_default();
    let with_numbers = !matches!(standing, Standing::Applied | Standing::Overruled);
    let mut shown = PolicyLine {
        repository,
        reason,
        message,
        ..PolicyLine::default()
    };
    cut(&mut shown.message, 1_000);
    let mut bytes = 0;
    if with_numbers {
        shown.images_to_expire = preview.images_to_expire;
        shown.images_to_archive = preview.images_to_archive;
        bytes = preview.bytes;
    }
    if matches!(standing, Standing::Blocked(Reason::Guarded)) {
        shown.token = preview.token;
    }
    Line { standing, shown, bytes }
}

fn claimed(wish: &Wish, recorded: &AppliedLifecycle, status: Option<&RepositoryStatus>) -> (Standing, String, String) {
    let answered = recorded.asked == wish.asked();
    let settled = |reason: Reason| recorded.reason == reason.as_str();
    if answered && settled(Reason::Settled) {
        return (Standing::Applied, recorded.reason.clone(), String::new());
    }
    if answered && settled(Reason::Observed) {
        return (Standing::Previewed, recorded.reason.clone(), String::new());
    }
    // What keeps the Repository itself from being settled keeps the policy from being put.
    let ready = RepositoryStatus::conditions(status)
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let (reason, message) = match (answered, ready) {
        (true, _) => (recorded.reason.clone(), recorded.message.clone()),
        (false, Some(ready)) if ready.status == "False" => (ready.reason.clone(), ready.message.clone()),
        (false, _) => return (Standing::Pending, String::new(), String::new()),
    };
    let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    match known.filter(|known| known.is_stall()) {
        Some(known) => (Standing::Blocked(known), reason, message),
        None => (Standing::Pending, reason, message),
    }
}

impl Tally {
    fn count(&self, is: impl Fn(Standing) -> bool) -> u32 {
        let counted = self.lines.iter().filter(|line| is(line.standing)).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    /// The numbers and the worst lines.
    pub(crate) fn fill(&self, status: &mut LifecyclePolicyStatus) {
        status.repositories = self.count(|standing| standing != Standing::Overruled);
        status.applied = self.count(|standing| standing == Standing::Applied);
        status.blocked = self.count(|standing| matches!(standing, Standing::Blocked(_)));
        status.overruled = self.count(|standing| standing == Standing::Overruled);
        let sum = |of: fn(&Line) -> u64| self.lines.iter().map(of).fold(0_u64, u64::saturating_add);
        status.images_to_expire = sum(|line| line.shown.images_to_expire);
        status.images_to_archive = sum(|line| line.shown.images_to_archive);
        status.bytes = sum(|line| line.bytes);
        let mut worst: Vec<&Line> = self
            .lines
            .iter()
            .filter(|line| line.standing != Standing::Applied)
            .collect();
        let class = |line: &Line| match line.standing {
            Standing::Blocked(_) => 0,
            Standing::Pending | Standing::Previewed => 1,
            Standing::Applied | Standing::Overruled => 2,
        };
        worst.sort_by_key(|line| {
            let gone = line.shown.images_to_expire.saturating_add(line.shown.images_to_archive);
            (class(line), Reverse(gone), line.shown.repository.clone())
        });
        status.worst = worst.into_iter().take(WORST).map(|line| line.shown.clone()).collect();
    }

    /// What is to be said of the policy as a whole. No number is in it, or each change of one would be an Event.
    pub(crate) fn plan<S>(&self) -> Plan<S> {
        if let Some(invalid) = &self.invalid {
            return Plan::verdict(Verdict::blocked(Reason::Invalid, invalid.clone()));
        }
        let applies: Vec<&Line> = self
            .lines
            .iter()
            .filter(|line| line.standing != Standing::Overruled)
            .collect();
        let blocked = applies.iter().find_map(|line| match line.standing {
            Standing::Blocked(reason) => Some((reason, line)),
            _ => None,
        });
        if let Some((reason, line)) = blocked {
            let message = format!(
                "the policy is not in force everywhere, see status.worst; on Repository {}: {}",
                line.shown.repository, line.shown.message
            );
            return Plan::verdict(Verdict::blocked(reason, message));
        }
        if applies.iter().any(|line| line.standing == Standing::Pending) {
            return Plan::verdict(Verdict::Waiting {
                reason: Reason::Previewing,
                message: "the policy is being put on its Repositories".into(),
                after: std::time::Duration::from_mins(1),
            });
        }
        let message = match (applies.is_empty(), self.lines.is_empty()) {
            (true, true) => "the policy selects no Repository".into(),
            (true, false) => "other policies come first on every Repository that this one selects".into(),
            (false, _) => String::new(),
        };
        Plan::verdict(Verdict::Settled { message })
    }
}
