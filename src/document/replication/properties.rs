//! What holds for any document and any owners: some hundreds of each, made from a seed.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{
    Document, Mark, Meaning, Place, Rule,
    compose::{Claim, Composed, Exceeded, MOST, MOST_FILTERS, Next, Wish, compose, foreign, next},
};

const ROUNDS: u64 = 300;
const NAMES: &[&str] = &["a", "ab", "b", "team-a/web", "team-b/web", "c/d"];
const FILTERS: &[&str] = &["a", "ab", "team-", "team-a/", "b", "c/d"];

fn place(rng: &mut Rng) -> Place {
    Place {
        region: format!("r{}", rng.u8(..4)),
        registry_id: format!("{}", rng.u8(..2)),
    }
}

fn meaning(rng: &mut Rng) -> Meaning {
    let few = rng.usize(1..3);
    let filters = (0..rng.usize(1..4)).map(|_| FILTERS[rng.usize(..FILTERS.len())].to_owned());
    let filters: BTreeSet<String> = filters.collect();
    Meaning {
        destinations: (0..few).map(|_| place(rng)).collect(),
        filters: (rng.u8(..5) > 0).then_some(filters),
        deletes: rng.u8(..4) == 0,
    }
}

fn shuffled(rng: &mut Rng, value: &Value) -> Value {
    let mut value = value.clone();
    for list in ["destinations", "repositoryFilters"] {
        if let Some(list) = value.get_mut(list).and_then(Value::as_array_mut) {
            rng.shuffle(list);
        }
    }
    value
}

/// Rules of somebody else: with what is not known, twice, or no rules at all.
fn others(rng: &mut Rng) -> Vec<Value> {
    let mut rules = Vec::new();
    for _ in 0..rng.usize(..5) {
        let said = meaning(rng).value();
        let mut rule = shuffled(rng, &said);
        match rng.u8(..6) {
            0 => rule["tomorrow"] = json!(rng.u8(..3)),
            1 => rule["destinations"][0]["tomorrow"] = json!(true),
            2 => rule = json!({ "destinations": rng.u8(..3) }),
            3 => rule["deleteReplication"] = json!({ "enabled": false }),
            _ => {}
        }
        rules.push(rule.clone());
        if rng.u8(..8) == 0 {
            rules.push(rule);
        }
    }
    rules
}

fn claims(rng: &mut Rng) -> Vec<Claim> {
    let count = rng.usize(..8);
    let some = |rng: &mut Rng| (0..rng.usize(..4)).map(|_| meaning(rng)).collect::<Vec<_>>();
    (0..count)
        .map(|at| {
            let in_force = some(rng);
            let wish = match rng.u8(..6) {
                0 => Wish::Held,
                1 => Wish::Gone,
                2 => Wish::Rules(in_force.clone()),
                _ => Wish::Rules(some(rng)),
            };
            Claim {
                id: format!("o{at}"),
                wish,
                in_force,
            }
        })
        .collect()
}

struct Round {
    live: Document,
    others: Vec<Value>,
    written: BTreeSet<Mark>,
    claims: Vec<Claim>,
    composed: Composed,
    next: Next,
}

/// A registry in which others have rules and we have some from before.
fn round(seed: u64) -> Round {
    let rng = &mut Rng::with_seed(seed);
    let others = others(rng);
    let old: Vec<Meaning> = (0..rng.usize(..4)).map(|_| meaning(rng)).collect();
    let old = compose(
        &[Claim {
            id: "old".into(),
            wish: Wish::Rules(old),
            in_force: Vec::new(),
        }],
        &[],
    );
    // What somebody else says already is theirs.
    let said: Vec<Option<Meaning>> = others
        .iter()
        .map(|raw| Rule::read(raw.clone()).meaning().cloned())
        .collect();
    let old: Vec<&Meaning> = old
        .rules
        .iter()
        .filter(|rule| !said.contains(&Some((*rule).clone())))
        .collect();
    let mut all: Vec<Value> = others.clone();
    all.extend(old.iter().map(|rule| shuffled(rng, &rule.value())));
    rng.shuffle(&mut all);
    let live = Document::parse(&json!({ "rules": all, "switch": rng.u8(..3) })).unwrap();
    let written = old.iter().map(|rule| rule.mark()).collect();
    let claims = claims(rng);
    let composed = compose(&claims, &foreign(&live, &written));
    let next = next(&live, &written, &composed.rules);
    Round {
        live,
        others,
        written,
        claims,
        composed,
        next,
    }
}

fn raws(document: &Document) -> Vec<String> {
    let mut raws: Vec<String> = document.rules.iter().map(|rule| rule.raw().to_string()).collect();
    raws.sort();
    raws
}

#[test]
fn what_others_wrote_stays_word_for_word() {
    for seed in 0..ROUNDS {
        let round = round(seed);
        let mut after = raws(&round.next.document);
        for rule in &round.others {
            let rule = rule.to_string();
            let at = after.iter().position(|raw| *raw == rule);
            assert!(at.is_some(), "seed {seed}: {rule} is gone");
            after.remove(at.unwrap());
        }
        assert_eq!(round.next.document.value()["switch"], round.live.value()["switch"]);
    }
}

#[test]
fn a_second_look_finds_nothing_to_do() {
    for seed in 0..ROUNDS {
        let Round {
            next: first, claims, ..
        } = round(seed);
        let again = compose(&claims, &foreign(&first.document, &first.marks));
        let second = next(&first.document, &first.marks, &again.rules);
        assert!(second.document.is_same(&first.document), "seed {seed}");
        assert_eq!(second.marks, first.marks, "seed {seed}");
        assert!(second.missing.is_empty() && second.obsolete == 0, "seed {seed}");
    }
}

/// What is on record before a put stands for both what was there and what is to be there.
#[test]
fn whether_or_not_a_put_without_an_answer_was_carried_out_the_next_look_ends_the_same() {
    for seed in 0..ROUNDS {
        let round = round(seed);
        let recorded: BTreeSet<Mark> = round.written.union(&round.next.marks).cloned().collect();
        for found in [&round.live, &round.next.document] {
            let again = next(found, &recorded, &round.composed.rules);
            assert!(again.document.is_same(&round.next.document), "seed {seed}");
            assert_eq!(again.marks, round.next.marks, "seed {seed}");
        }
    }
}

#[test]
fn when_all_owners_are_gone_what_others_wrote_is_left() {
    for seed in 0..ROUNDS {
        let round = round(seed);
        let last = next(&round.next.document, &round.next.marks, &[]);
        let mut others: Vec<String> = round.others.iter().map(Value::to_string).collect();
        others.sort();
        assert_eq!(raws(&last.document), others, "seed {seed}");
        assert!(last.marks.is_empty());
    }
}

#[test]
fn an_owner_that_goes_takes_nothing_that_another_wants() {
    for seed in 0..ROUNDS {
        let mut round = round(seed);
        let Some(gone) = round.claims.first().map(|claim| claim.id.clone()) else {
            continue;
        };
        if !round.composed.exceeded.is_empty() {
            // Whoever was held up may have come in.
            continue;
        }
        round.claims[0].wish = Wish::Gone;
        let without = compose(&round.claims, &foreign(&round.next.document, &round.next.marks));
        let after = next(&round.next.document, &round.next.marks, &without.rules);
        for (id, part) in round.composed.parts.iter().filter(|(id, _)| **id != gone) {
            for rule in part {
                assert!(covers(&after.document, rule), "seed {seed}: {rule:?} of {id} is gone");
            }
        }
    }
}

#[test]
fn everything_that_is_granted_is_replicated_and_nothing_that_nobody_asks_for() {
    for seed in 0..ROUNDS {
        let round = round(seed);
        for rule in round.composed.parts.values().flatten() {
            assert!(covers(&round.next.document, rule), "seed {seed}: {rule:?}");
        }
        let asked: Vec<&Meaning> = round.composed.parts.values().flatten().collect();
        let theirs: Vec<Meaning> = round
            .others
            .iter()
            .filter_map(|raw| Rule::read(raw.clone()).meaning().cloned())
            .collect();
        for rule in round.next.document.rules.iter().filter_map(Rule::meaning) {
            for to in &rule.destinations {
                for name in NAMES.iter().filter(|name| rule.takes(name, to)) {
                    let wanted = |other: &Meaning| other.deletes == rule.deletes && other.takes(name, to);
                    let is_wanted = asked.iter().any(|other| wanted(other)) || theirs.iter().any(wanted);
                    assert!(is_wanted, "seed {seed}: {name} to {to:?} by {rule:?}");
                }
            }
        }
    }
}

/// Whether all that a rule replicates is replicated alike by the document.
fn covers(document: &Document, rule: &Meaning) -> bool {
    rule.destinations.iter().all(|to| {
        NAMES.iter().filter(|name| rule.takes(name, to)).all(|name| {
            let mut rules = document.rules.iter().filter_map(Rule::meaning);
            rules.any(|other| other.deletes == rule.deletes && other.takes(name, to))
        })
    })
}

#[test]
fn the_order_of_rules_and_of_owners_changes_nothing() {
    for seed in 0..ROUNDS {
        let round = round(seed);
        if !round.composed.exceeded.is_empty() {
            // The oldest come first.
            continue;
        }
        let rng = &mut Rng::with_seed(seed ^ 7);
        let mut claims = round.claims.clone();
        rng.shuffle(&mut claims);
        let mut rules = round.live.rules.clone();
        rng.shuffle(&mut rules);
        let live = round.live.with(rules);
        let composed = compose(&claims, &foreign(&live, &round.written));
        let next = next(&live, &round.written, &composed.rules);
        assert!(next.document.is_same(&round.next.document), "seed {seed}");
    }
}

fn to(region: usize) -> Meaning {
    Meaning {
        destinations: BTreeSet::from([Place {
            region: format!("r{region}"),
            registry_id: "1".into(),
        }]),
        filters: None,
        deletes: false,
    }
}

fn claim(id: &str, wish: Vec<Meaning>, in_force: Vec<Meaning>) -> Claim {
    Claim {
        id: id.into(),
        wish: Wish::Rules(wish),
        in_force,
    }
}

#[test]
fn a_limit_holds_up_the_one_that_exceeds_it_and_nobody_else() {
    let many = |range: std::ops::Range<usize>| range.map(to).collect::<Vec<_>>();
    let settled = claim("b", many(0..20), many(0..20));
    let grows = claim("a", many(20..30), many(20..22));
    let small = claim("c", many(22..24), vec![]);
    let composed = compose(&[grows, settled, small], &[]);
    assert_eq!(composed.exceeded.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(composed.exceeded["a"], Exceeded::Rules);
    assert_eq!(composed.parts["a"], many(20..22));
    assert_eq!(composed.parts["b"], many(0..20));
    assert_eq!(composed.parts["c"], many(22..24));
}

#[test]
fn of_those_that_ask_for_too_much_at_once_the_oldest_are_served() {
    let claims: Vec<Claim> = (0..30)
        .map(|at| claim(&format!("o{at:02}"), vec![to(at)], vec![]))
        .collect();
    let composed = compose(&claims, &[]);
    assert_eq!(composed.rules.len(), MOST);
    assert_eq!(composed.exceeded.keys().next().map(String::as_str), Some("o25"));
    assert_eq!(composed.exceeded.len(), 5);
}

#[test]
fn filters_and_destinations_have_limits_and_those_of_others_count() {
    let filters = |range: std::ops::Range<usize>| Meaning {
        filters: Some(range.map(|at| format!("f{at}/")).collect()),
        ..to(1)
    };
    let half = claim("a", vec![filters(0..60)], vec![]);
    let other = claim("b", vec![filters(60..MOST_FILTERS + 1)], vec![]);
    let composed = compose(&[half, other], &[]);
    assert_eq!(composed.exceeded.get("b"), Some(&Exceeded::Filters));
    assert!(!composed.exceeded.contains_key("a"));

    let wide = |range: std::ops::Range<usize>| Meaning {
        destinations: range.flat_map(|at| to(at).destinations).collect(),
        ..to(0)
    };
    let theirs = Rule::new(wide(0..20));
    let ours = claim("a", vec![wide(20..26)], vec![]);
    assert_eq!(
        compose(std::slice::from_ref(&ours), &[&theirs]).exceeded.get("a"),
        Some(&Exceeded::Destinations)
    );
    assert!(compose(&[ours], &[]).exceeded.is_empty());
}

#[test]
fn documents_stay_within_the_limits() {
    for seed in 0..ROUNDS {
        let rng = &mut Rng::with_seed(seed);
        let claims: Vec<Claim> = (0..rng.usize(1..12))
            .map(|at| {
                let some = |rng: &mut Rng| (0..rng.usize(..6)).map(|_| to(rng.usize(..40))).collect::<Vec<_>>();
                claim(&format!("o{at:02}"), some(rng), some(rng))
            })
            .collect();
        let theirs: Vec<Rule> = (0..rng.usize(..12)).map(|_| Rule::new(to(rng.usize(..40)))).collect();
        let theirs: Vec<&Rule> = theirs.iter().collect();
        let composed = compose(&claims, &theirs);
        let live = Document::default().with(theirs.into_iter().cloned().collect());
        let next = next(&live, &BTreeSet::new(), &composed.rules);
        assert!(next.document.rules.len() <= MOST, "seed {seed}");
        for claim in &claims {
            let part = &composed.parts[&claim.id];
            let is_whole = Wish::Rules(part.clone()) == claim.wish;
            assert!(is_whole || composed.exceeded.contains_key(&claim.id), "seed {seed}");
        }
    }
}
