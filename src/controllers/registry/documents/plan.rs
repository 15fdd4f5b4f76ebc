//! What to do about one document of a registry. Pure.

use std::{collections::BTreeSet, fmt};

use super::part::{Part, Wish};
use crate::{
    control::reason::Reason,
    document::{
        known::Stored,
        policy::{self, Policy, REPLICATE_FROM, SID_PREFIX},
        scanning::Scanning,
        signing::Signing,
    },
};

/// The most principals and statements that are recorded as ours.
const RECORDED: usize = 200;

/// A part as ECR has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Scanning(Stored<Scanning>),
    Signing(Stored<Signing>),
    Policy(LivePolicy),
    Setting(String),
    /// The scope, and the registry's policy where the scope is to change.
    Scope {
        value: String,
        policy: LivePolicy,
    },
    Exclusions(BTreeSet<String>),
}

/// The registry's policy as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LivePolicy {
    Absent,
    Known {
        policy: Policy,
        text: String,
    },
    /// It says something that is not understood; why.
    Unknown {
        why: String,
    },
}

impl LivePolicy {
    /// What ECR's text says.
    pub(crate) fn read(text: Option<String>) -> Self {
        match text {
            None => Self::Absent,
            Some(text) => match Policy::parse_of_registry(&text) {
                Ok(policy) => Self::Known { policy, text },
                Err(error) => Self::Unknown { why: error.to_string() },
            },
        }
    }
}

/// What is on record as put from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub exclusions: BTreeSet<String>,
    pub statements: BTreeSet<String>,
}

/// One change. `Display` is the line that `ecr-operator plan` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    PutScanning {
        from: Scanning,
        to: Scanning,
    },
    PutSigning {
        from: Signing,
        to: Signing,
    },
    PutPolicy {
        to: Policy,
        added: Vec<String>,
        changed: Vec<String>,
        removed: Vec<String>,
    },
    /// Nothing but statements of ours was left in it.
    RemovePolicy,
    PutSetting {
        part: Part,
        name: &'static str,
        from: String,
        to: &'static str,
    },
    Exclude {
        register: Vec<String>,
        deregister: Vec<String>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutScanning { from, to } => write!(f, "scanning: {from} -> {to}"),
            Self::PutSigning { from, to } => write!(f, "signing: {from} -> {to}"),
            Self::PutPolicy {
                added,
                changed,
                removed,
                ..
            } => {
                f.write_str("policy:")?;
                let mut gap = " ";
                for (sign, sids) in [("+", added), ("~", changed), ("-", removed)] {
                    for sid in sids {
                        write!(f, "{gap}{sign} {sid}")?;
                        gap = ", ";
                    }
                }
                Ok(())
            }
            Self::RemovePolicy => f.write_str("policy: delete it, nothing but statements of ours is in it"),
            Self::PutSetting { part, from, to, .. } => write!(f, "{part}: {from} -> {to}"),
            Self::Exclude { register, deregister } => {
                f.write_str("pullTimeUpdateExclusions:")?;
                let mut gap = " ";
                for (sign, principals) in [("+", register), ("-", deregister)] {
                    for principal in principals {
                        write!(f, "{gap}{sign} {principal}")?;
                        gap = ", ";
                    }
                }
                Ok(())
            }
        }
    }
}

/// What there is to do about a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// ECR has it as wanted.
    Settled,
    /// `previous`: what the step overwrites, as ECR has it; empty where nothing is lost.
    Step {
        step: Step,
        previous: String,
    },
    Blocked {
        reason: Reason,
        message: String,
    },
}

impl Decision {
    fn blocked(reason: Reason, message: impl Into<String>) -> Self {
        Self::Blocked {
            reason,
            message: message.into(),
        }
    }
}

/// Holds what ECR has against what is wanted.
pub(crate) fn decide(part: Part, wish: &Wish, seen: &Seen, recorded: &Recorded) -> Decision {
    match (wish, seen) {
        (Wish::Scanning(wanted), Seen::Scanning(stored)) => {
            whole(wanted, stored, |from, to| Step::PutScanning { from, to })
        }
        (Wish::Signing(wanted), Seen::Signing(stored)) => {
            whole(wanted, stored, |from, to| Step::PutSigning { from, to })
        }
        (Wish::Setting(wanted), Seen::Setting(value)) => match (value == wanted, part.setting()) {
            (false, Some(name)) => setting(part, name, value, wanted),
            _ => Decision::Settled,
        },
        (Wish::Scope { confirmed }, Seen::Scope { value, policy }) => scope(part, *confirmed, value, policy),
        (Wish::Policy(wanted), Seen::Policy(live)) => shared(wanted.as_ref(), live, SID_PREFIX, &recorded.statements),
        // What was put for spec.policy, when that was named, is nobody's to remove any more.
        (Wish::Sources(wanted), Seen::Policy(live)) => {
            let language = match live {
                LivePolicy::Known { policy, .. } => Some(policy),
                LivePolicy::Absent | LivePolicy::Unknown { .. } => None,
            };
            let wanted = match (wanted.clone(), language) {
                (Some(wanted), Some(live)) => Some(wanted.in_version_of(live)),
                (wanted, _) => wanted,
            };
            shared(wanted.as_ref(), live, REPLICATE_FROM, &BTreeSet::new())
        }
        (Wish::Exclusions(wanted), Seen::Exclusions(registered)) => exclusions(wanted, registered, recorded),
        // Nobody reads one part for another.
        _ => Decision::blocked(Reason::Conflict, "what was read is another document"),
    }
}

/// A document that the spec owns whole.
fn whole<T: Clone + PartialEq>(wanted: &T, stored: &Stored<T>, step: impl FnOnce(T, T) -> Step) -> Decision {
    if stored.document == *wanted {
        return Decision::Settled;
    }
    if !stored.unknown.is_empty() {
        let message = format!(
            "the document in ECR has members that this version of the operator does not know and would lose: {}; nothing is \
             written. Upgrade the operator, or take them out in ECR",
            stored.unknown.join(", ")
        );
        return Decision::blocked(Reason::Conflict, message);
    }
    Decision::Step {
        step: step(stored.document.clone(), wanted.clone()),
        previous: stored.text.clone(),
    }
}

fn setting(part: Part, name: &'static str, from: &str, to: &'static str) -> Decision {
    Decision::Step {
        step: Step::PutSetting {
            part,
            name,
            from: from.to_owned(),
            to,
        },
        previous: String::new(),
    }
}

/// The scope of the registry's policy. Statements that sleep are woken only by somebody who knows which.
fn scope(part: Part, confirmed: bool, value: &str, policy: &LivePolicy) -> Decision {
    match value {
        "V2" => return Decision::Settled,
        "V1" => {}
        newer => {
            let message = format!("the scope in ECR is {newer}, which this version of the operator does not know");
            return Decision::blocked(Reason::Conflict, message);
        }
    }
    let asleep = match policy {
        LivePolicy::Absent => Vec::new(),
        LivePolicy::Known { policy, .. } => policy::asleep(policy),
        LivePolicy::Unknown { why } => vec![format!("nobody knows which, since the policy cannot be read ({why})")],
    };
    if !confirmed && !asleep.is_empty() {
        let message = format!(
            "V2 would put statements of the registry's policy into force that V1 lets sleep: {}. Read them, and set \
             spec.settings.confirmRegistryPolicyScope to 'V2 wakes sleeping statements'; there is no way back",
            asleep.join(", ")
        );
        return Decision::blocked(Reason::Protected, message);
    }
    match part.setting() {
        Some(name) => setting(part, name, value, "V2"),
        None => Decision::Settled,
    }
}

/// The registry's policy, which others share. Ours are the statements whose Sids are wanted, begin so, or are recorded.
fn shared(wanted: Option<&Policy>, live: &LivePolicy, prefix: &str, recorded: &BTreeSet<String>) -> Decision {
    let (standing, text) = match live {
        LivePolicy::Absent => (None, ""),
        LivePolicy::Known { policy, text } => (Some(policy), text.as_str()),
        LivePolicy::Unknown { why } => {
            let message = format!(
                "the policy in ECR cannot be read, so the statements of others in it could be lost: {why}; nothing is written. \
                 Mend it in ECR, or upgrade the operator"
            );
            return Decision::blocked(Reason::Conflict, message);
        }
    };
    let united = match policy::unite(standing, wanted, prefix, recorded) {
        Ok(united) => united,
        Err(why) => return Decision::blocked(Reason::Conflict, why),
    };
    let previous = text.to_owned();
    let Some(to) = united else {
        return match standing {
            None => Decision::Settled,
            Some(_) => Decision::Step {
                step: Step::RemovePolicy,
                previous,
            },
        };
    };
    if standing == Some(&to) {
        return Decision::Settled;
    }
    if let Err(error) = to.check_length() {
        return Decision::blocked(Reason::Invalid, format!("with the statements of others in it, {error}"));
    }
    let before = standing.map(Policy::sids).unwrap_or_default();
    let named = wanted.map(Policy::sids).unwrap_or_default();
    let after = to.sids();
    let added: Vec<String> = after.difference(&before).cloned().collect();
    if added.len() + recorded.len() > RECORDED {
        let message = format!("more than {RECORDED} statements would be on record as put from here");
        return Decision::blocked(Reason::Invalid, message);
    }
    let same = |sid: &String| {
        let of = |policy: &Policy| policy.statements().iter().find(|s| s.sid() == Some(sid)).cloned();
        standing.and_then(of) == of(&to)
    };
    let changed = named.intersection(&before).filter(|sid| !same(sid)).cloned();
    Decision::Step {
        step: Step::PutPolicy {
            added,
            changed: changed.collect(),
            removed: before.difference(&after).cloned().collect(),
            to,
        },
        previous,
    }
}

/// A list that others share: those of theirs stay.
fn exclusions(wanted: &BTreeSet<String>, registered: &BTreeSet<String>, recorded: &Recorded) -> Decision {
    let ours_to_go = recorded.exclusions.intersection(registered);
    let register: Vec<String> = wanted.difference(registered).cloned().collect();
    let deregister: Vec<String> = ours_to_go
        .filter(|principal| !wanted.contains(*principal))
        .cloned()
        .collect();
    if register.is_empty() && deregister.is_empty() {
        return Decision::Settled;
    }
    if register.len() + recorded.exclusions.len() > RECORDED {
        let message = format!("more than {RECORDED} principals would be on record as registered from here");
        return Decision::blocked(Reason::Invalid, message);
    }
    Decision::Step {
        step: Step::Exclude { register, deregister },
        previous: String::new(),
    }
}

impl Recorded {
    /// What ECR has no more is nobody's: whoever puts it there again is its owner.
    pub(crate) fn seen(&mut self, seen: &Seen) {
        match seen {
            Seen::Exclusions(registered) => self.exclusions.retain(|principal| registered.contains(principal)),
            Seen::Policy(LivePolicy::Absent) => self.statements.clear(),
            Seen::Policy(LivePolicy::Known { policy, .. }) => {
                let sids = policy.sids();
                self.statements.retain(|sid| sids.contains(sid));
            }
            Seen::Policy(LivePolicy::Unknown { .. })
            | Seen::Scanning(_)
            | Seen::Signing(_)
            | Seen::Setting(_)
            | Seen::Scope { .. } => {}
        }
    }

    /// What must be on record before a step is taken: a process that dies in it must know afterwards what is its own.
    pub(crate) fn before(&mut self, step: &Step) {
        match step {
            Step::Exclude { register, .. } => self.exclusions.extend(register.iter().cloned()),
            Step::PutPolicy { added, .. } => self.statements.extend(added.iter().cloned()),
            Step::PutScanning { .. } | Step::PutSigning { .. } | Step::RemovePolicy | Step::PutSetting { .. } => {}
        }
    }

    /// What is still ours once a part is settled as wanted: what was taken away or was never named is forgotten.
    pub(crate) fn settled(&mut self, wish: &Wish) {
        match wish {
            Wish::Exclusions(wanted) => self.exclusions.retain(|principal| wanted.contains(principal)),
            Wish::Policy(wanted) | Wish::Sources(wanted) => {
                let named = wanted.as_ref().map(Policy::sids).unwrap_or_default();
                self.statements.retain(|sid| named.contains(sid));
            }
            Wish::Scanning(_) | Wish::Signing(_) | Wish::Setting(_) | Wish::Scope { .. } => {}
        }
    }

    /// A part is not managed any more: what is there stays, and is nobody's to remove.
    pub(crate) fn forget(&mut self, part: Part) {
        match part {
            Part::Exclusions => self.exclusions.clear(),
            Part::Policy => self.statements.clear(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::registry::RegistrySpec,
        controllers::registry::documents::part::{hash, wish},
    };

    fn spec(documents: Value) -> RegistrySpec {
        let mut spec = json!({ "region": "eu-west-1", "registryId": "111122223333" });
        let (Some(spec_map), Value::Object(documents)) = (spec.as_object_mut(), documents) else {
            panic!("a map")
        };
        spec_map.extend(documents);
        serde_json::from_value(spec).expect("a spec")
    }

    fn wanted(documents: Value, part: Part) -> Wish {
        wish(&spec(documents), part).expect("named").expect("valid")
    }

    fn step(decision: Decision) -> String {
        match decision {
            Decision::Step { step, .. } => step.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn blocked(decision: Decision) -> (Reason, String) {
        match decision {
            Decision::Blocked { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn live_scanning(extra: Option<&str>) -> Seen {
        let mut stored = json!({ "scanType": "BASIC", "rules": [
            { "scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [
                { "filter": "b", "filterType": "WILDCARD" }, { "filter": "a", "filterType": "WILDCARD" } ] },
        ]});
        if let Some(extra) = extra {
            stored["rules"][0][extra] = json!(1);
        }
        Seen::Scanning(Scanning::read(&stored).expect("a configuration"))
    }

    fn scanning(filters: &[&str]) -> Wish {
        let filters: Vec<_> = filters.iter().map(|filter| json!({ "filter": filter })).collect();
        let rule = json!({ "scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": filters });
        wanted(
            json!({ "scanning": { "scanType": "BASIC", "rules": [rule] } }),
            Part::Scanning,
        )
    }

    fn live_policy(sids: &[&str]) -> LivePolicy {
        let statements: Vec<_> = sids.iter().map(|sid| statement(sid, "ecr:ReplicateImage")).collect();
        LivePolicy::read(Some(
            json!({ "Version": "2012-10-17", "Statement": statements }).to_string(),
        ))
    }

    fn statement(sid: &str, action: &str) -> Value {
        json!({ "Sid": sid, "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::444455556666:root" }, "Action": action,
                "Resource": "arn:aws:ecr:eu-west-1:111122223333:repository/*" })
    }

    fn policy_wish(sids: &[&str]) -> Wish {
        let statements: Vec<_> = sids.iter().map(|sid| statement(sid, "ecr:ReplicateImage")).collect();
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        wanted(json!({ "policy": { "document": document } }), Part::Policy)
    }

    #[test]
    fn a_part_that_is_left_out_is_not_wanted() {
        for part in Part::ALL {
            assert_eq!(wish(&spec(json!({})), part), None, "{part}");
            assert_eq!(wish(&spec(json!({ "settings": {} })), part), None, "{part}");
        }
    }

    #[test]
    fn another_order_is_no_difference_and_another_rule_is_one_step() {
        let none = Recorded::default();
        let seen = live_scanning(None);
        assert_eq!(
            decide(Part::Scanning, &scanning(&["a", "b"]), &seen, &none),
            Decision::Settled
        );
        let decision = decide(Part::Scanning, &scanning(&["a"]), &seen, &none);
        let Decision::Step { previous, .. } = &decision else {
            panic!("{decision:?}")
        };
        assert!(previous.contains("\"filter\":\"b\""), "{previous}");
        assert_eq!(
            step(decision),
            "scanning: BASIC SCAN_ON_PUSH [a b] -> BASIC SCAN_ON_PUSH [a]"
        );
    }

    #[test]
    fn what_a_write_would_lose_blocks_it_and_only_it() {
        let none = Recorded::default();
        let seen = live_scanning(Some("schedule"));
        let (reason, message) = blocked(decide(Part::Scanning, &scanning(&["a"]), &seen, &none));
        assert_eq!(reason, Reason::Conflict);
        assert!(message.contains("rules[0].schedule"), "{message}");
        assert_eq!(
            decide(Part::Scanning, &scanning(&["a", "b"]), &seen, &none),
            Decision::Settled,
            "nothing is to be written"
        );
    }

    #[test]
    fn statements_of_others_stay_and_ours_are_recorded_before_they_are_put() {
        let live = Seen::Policy(live_policy(&["Foreign", "EcrOperatorOld", "Named"]));
        let mut recorded = Recorded::default();
        let decision = decide(Part::Policy, &policy_wish(&["Named", "New"]), &live, &recorded);
        let Decision::Step { step: put, .. } = &decision else {
            panic!("{decision:?}")
        };
        recorded.before(put);
        assert_eq!(recorded.statements, set(&["New"]), "Named was there before us");
        let Step::PutPolicy { to, .. } = put else {
            panic!("{put:?}")
        };
        assert_eq!(to.sids(), set(&["Foreign", "Named", "New"]));
        assert_eq!(put.to_string(), "policy: + New, - EcrOperatorOld");

        let live = Seen::Policy(live_policy(&["Foreign", "Named", "New"]));
        let none = wanted(json!({ "policy": {} }), Part::Policy);
        assert_eq!(
            step(decide(Part::Policy, &none, &live, &recorded)),
            "policy: - New",
            "only what was put from here goes"
        );
        let alone = Seen::Policy(live_policy(&["New"]));
        assert_eq!(
            step(decide(Part::Policy, &none, &alone, &recorded)),
            "policy: delete it, nothing but statements of ours is in it"
        );
        recorded.settled(&none);
        assert_eq!(recorded, Recorded::default());
        let unreadable = Seen::Policy(LivePolicy::read(Some("{\"Statement\": [], \"Novelty\": 1}".into())));
        let (reason, message) = blocked(decide(Part::Policy, &none, &unreadable, &recorded));
        assert!(reason == Reason::Conflict && message.contains("Novelty"), "{message}");
    }

    #[test]
    fn who_may_replicate_in_has_a_statement_beside_those_of_others_and_of_the_spec() {
        let from = |accounts: &[&str], policy: Value| {
            let mut documents = json!({ "replication": { "from": accounts } });
            if !policy.is_null() {
                documents["policy"] = policy;
            }
            wanted(documents, Part::Policy)
        };
        let of = |account: &str| format!("EcrOperatorReplicateFrom{account}");
        let (a, b) = ("444455556666", "777788889999");
        let put = |wish: &Wish, live: &[&str], recorded: &Recorded| {
            step(decide(Part::Policy, wish, &Seen::Policy(live_policy(live)), recorded))
        };
        let none = Recorded::default();
        // Without spec.policy, no other statement is ours, not even one that was put for it, or has our prefix.
        let recorded = Recorded {
            statements: set(&["Named"]),
            ..Recorded::default()
        };
        let live = ["Foreign", "Named", "EcrOperatorOld", &of(b)];
        assert_eq!(
            put(&from(&[a], Value::Null), &live, &recorded),
            format!("policy: + {}, - {}", of(a), of(b))
        );
        let live = Seen::Policy(live_policy(&["Foreign"]));
        assert_eq!(
            decide(Part::Policy, &from(&[], Value::Null), &live, &none),
            Decision::Settled
        );
        // With it, both are asked for together.
        let document = json!({ "Version": "2012-10-17", "Statement": [statement("Named", "ecr:ReplicateImage")] });
        let both = from(&[a], json!({ "document": document }));
        assert_eq!(
            put(&both, &["Foreign", "Named", "EcrOperatorOld", &of(b)], &none),
            format!("policy: + {}, - EcrOperatorOld, {}", of(a), of(b)).replace(", EcrOp", ", - EcrOp")
        );
        assert_eq!(
            put(&from(&[], json!({})), &["Foreign", &of(a)], &none),
            format!("policy: - {}", of(a))
        );
        let taken = json!({ "Version": "2012-10-17", "Statement": [statement(&of(a), "ecr:ReplicateImage")] });
        let spec = spec(json!({ "replication": { "from": [b] }, "policy": { "document": taken } }));
        let error = wish(&spec, Part::Policy).unwrap().unwrap_err();
        assert!(error.contains("belongs to spec.replication.from"), "{error}");
        // A policy in the old language with variables of others takes it, too.
        let mut variable = statement("Foreign", "ecr:ReplicateImage");
        variable["Resource"] = json!("arn:aws:ecr:eu-west-1:111122223333:repository/${x}/*");
        let old = LivePolicy::read(Some(json!({ "Statement": [variable] }).to_string()));
        let decision = decide(Part::Policy, &from(&[a], Value::Null), &Seen::Policy(old), &none);
        let Decision::Step {
            step: Step::PutPolicy { to, .. },
            ..
        } = decision
        else {
            panic!("{decision:?}")
        };
        assert!(to.to_text().contains("2008-10-17"), "{}", to.to_text());
    }

    #[test]
    fn a_policy_that_gets_too_long_with_those_of_others_is_not_put() {
        let foreign: Vec<String> = (0..40).map(|number| format!("Foreign{number}")).collect();
        let live = Seen::Policy(live_policy(&foreign.iter().map(String::as_str).collect::<Vec<_>>()));
        let ours: Vec<String> = (0..20).map(|number| format!("Ours{number}")).collect();
        let wish = policy_wish(&ours.iter().map(String::as_str).collect::<Vec<_>>());
        let (reason, message) = blocked(decide(Part::Policy, &wish, &live, &Recorded::default()));
        assert!(reason == Reason::Invalid && message.contains("10240"), "{message}");
    }

    #[test]
    fn only_what_was_registered_from_here_is_deregistered() {
        let wish = wanted(
            json!({ "pullTimeUpdateExclusions": ["arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b"] }),
            Part::Exclusions,
        );
        let [a, b, foreign] = ["a", "b", "f"].map(|name| format!("arn:aws:iam::111122223333:role/{name}"));
        let mut recorded = Recorded::default();
        let seen = Seen::Exclusions(set(&[&b, &foreign]));
        let decision = decide(Part::Exclusions, &wish, &seen, &recorded);
        let Decision::Step { step: exclude, .. } = decision else {
            panic!("{decision:?}")
        };
        assert_eq!(exclude.to_string(), format!("pullTimeUpdateExclusions: + {a}"));
        recorded.before(&exclude);
        let nothing = wanted(json!({ "pullTimeUpdateExclusions": [] }), Part::Exclusions);
        let seen = Seen::Exclusions(set(&[&a, &b, &foreign]));
        assert_eq!(
            step(decide(Part::Exclusions, &nothing, &seen, &recorded)),
            format!("pullTimeUpdateExclusions: - {a}")
        );
        recorded.seen(&Seen::Exclusions(set(&[&b])));
        assert_eq!(
            decide(Part::Exclusions, &nothing, &seen, &recorded),
            Decision::Settled,
            "somebody else took it away and put it back"
        );
    }

    #[test]
    fn v2_is_put_only_where_nothing_wakes_or_somebody_says_so_in_words() {
        let words = |confirmed: bool| {
            let mut settings = json!({ "registryPolicyScope": "V2" });
            if confirmed {
                settings["confirmRegistryPolicyScope"] = json!("V2 wakes sleeping statements");
            }
            wanted(json!({ "settings": settings }), Part::RegistryPolicyScope)
        };
        let none = Recorded::default();
        let seen = |value: &str, policy: LivePolicy| Seen::Scope {
            value: value.into(),
            policy,
        };
        let of = |confirmed, seen: &Seen| decide(Part::RegistryPolicyScope, &words(confirmed), seen, &none);
        let asleep = json!({ "Version": "2012-10-17", "Statement": [
            statement("Replicate", "ecr:ReplicateImage"), statement("Wide", "ecr:*") ] });
        let asleep = LivePolicy::read(Some(asleep.to_string()));
        let (reason, message) = blocked(of(false, &seen("V1", asleep.clone())));
        assert_eq!(reason, Reason::Protected);
        assert!(message.contains("sleep: Wide."), "{message}");
        let put = "settings.registryPolicyScope: V1 -> V2";
        assert_eq!(step(of(true, &seen("V1", asleep))), put);
        assert_eq!(step(of(false, &seen("V1", live_policy(&["A"])))), put);
        assert_eq!(step(of(false, &seen("V1", LivePolicy::Absent))), put);
        let unreadable = LivePolicy::read(Some("{}".into()));
        assert!(blocked(of(false, &seen("V1", unreadable))).1.contains("cannot be read"));
        assert_eq!(of(false, &seen("V2", LivePolicy::Absent)), Decision::Settled);
        assert_eq!(
            blocked(of(true, &seen("V3", LivePolicy::Absent))).0,
            Reason::Conflict,
            "never back"
        );
    }

    #[test]
    fn the_hash_is_that_of_the_meaning() {
        let of = |wish: Wish, manage| hash(Part::Scanning, &Ok(wish), manage);
        assert_eq!(of(scanning(&["a", "b"]), true), of(scanning(&["b", "a"]), true));
        assert_ne!(of(scanning(&["a"]), true), of(scanning(&["b"]), true));
        assert_ne!(of(scanning(&["a"]), true), of(scanning(&["a"]), false));
    }
}
