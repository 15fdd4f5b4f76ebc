//! Circles of files: those of which each imports another, round to the first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::modules::Import;

/// The files that can reach each other by imports. A circle is a largest such set of two files or more.
pub(crate) type Circle = BTreeSet<String>;

/// What is wrong: circles that are not listed, and listed ones that are not there.
pub(crate) fn check(imports: &BTreeSet<Import>, listed: &[&[&str]]) -> Vec<String> {
    let graph = Graph::new(imports);
    let listed: Vec<Circle> = listed
        .iter()
        .map(|files| files.iter().map(ToString::to_string).collect())
        .collect();
    let found = graph.circles();
    let mut wrong = Vec::new();
    for circle in found
        .iter()
        .filter(|circle| !listed.iter().any(|known| circle.is_subset(known)))
    {
        let way: Vec<String> = graph.shortest(circle, &listed).into_iter().map(shown).collect();
        wrong.push(format!(
            "these files import each other in a circle that is new:\n{}\n  Move what they share into a file that imports none of \
             them, or pass it in as an argument. Do not list the circle: CIRCLES in tests/layers/today.rs only ever shrinks.",
            way.join("\n")
        ));
    }
    for known in &listed {
        let rest: Vec<&Circle> = found.iter().filter(|circle| circle.is_subset(known)).collect();
        let kept: Circle = found.iter().flatten().cloned().collect();
        let gone: Vec<&str> = known.difference(&kept).map(String::as_str).collect();
        if !gone.is_empty() {
            wrong.push(format!(
                "these files are not in a circle any more: {}\n  Take them off CIRCLES in tests/layers/today.rs.",
                gone.join(", ")
            ));
        } else if rest.len() > 1 {
            let parts: Vec<String> = rest
                .iter()
                .map(|part| part.iter().cloned().collect::<Vec<_>>().join(", "))
                .collect();
            wrong.push(format!(
                "one circle has become several:\n  {}\n  List them apart in CIRCLES in tests/layers/today.rs.",
                parts.join("\n  ")
            ));
        }
    }
    wrong
}

fn shown(import: &Import) -> String {
    format!(
        "  {}:{} names {} of {}",
        import.from, import.line, import.path, import.to
    )
}

/// The first import from one file to another.
struct Graph<'i> {
    edges: BTreeMap<&'i str, BTreeMap<&'i str, &'i Import>>,
}

impl<'i> Graph<'i> {
    fn new(imports: &'i BTreeSet<Import>) -> Self {
        let mut edges: BTreeMap<&str, BTreeMap<&str, &Import>> = BTreeMap::new();
        for import in imports.iter().filter(|import| !is_own_part(&import.from, &import.to)) {
            edges.entry(&import.to).or_default();
            edges
                .entry(&import.from)
                .or_default()
                .entry(&import.to)
                .or_insert(import);
        }
        Self { edges }
    }

    fn next<'g>(&'g self, file: &str) -> impl Iterator<Item = &'i str> + use<'i, 'g> {
        self.edges.get(file).into_iter().flat_map(|next| next.keys().copied())
    }

    fn circles(&self) -> Vec<Circle> {
        let below: BTreeMap<&str, BTreeSet<&str>> = self.edges.keys().map(|file| (*file, self.reach(file))).collect();
        let reaches = |from: &str, to: &str| below.get(from).is_some_and(|below| below.contains(to));
        let mut circles: Vec<Circle> = Vec::new();
        for file in self.edges.keys().filter(|file| reaches(file, file)) {
            if !circles.iter().any(|circle| circle.contains(*file)) {
                let others = self
                    .edges
                    .keys()
                    .filter(|other| reaches(file, other) && reaches(other, file));
                circles.push(others.map(|other| (*other).to_owned()).collect());
            }
        }
        circles
    }

    /// What a file imports, and what that imports, to the end.
    fn reach(&self, file: &str) -> BTreeSet<&'i str> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = self.next(file).collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.next(next));
            }
        }
        reached
    }

    /// The shortest way round that is not within one listed circle.
    fn shortest(&self, circle: &Circle, listed: &[Circle]) -> Vec<&'i Import> {
        let is_known = |one: &str, other: &str| listed.iter().any(|known| known.contains(one) && known.contains(other));
        let mut best: Vec<&Import> = Vec::new();
        for (from, next) in self.edges.iter().filter(|(from, _)| circle.contains(**from)) {
            for (to, import) in next
                .iter()
                .filter(|(to, _)| circle.contains(**to) && !is_known(from, to))
            {
                let way: Vec<&Import> = std::iter::once(*import).chain(self.way(to, from)).collect();
                if best.is_empty() || way.len() < best.len() {
                    best = way;
                }
            }
        }
        best
    }

    /// The imports on the shortest way from one file to another.
    fn way(&self, from: &'i str, to: &str) -> Vec<&'i Import> {
        let mut before: BTreeMap<&str, &Import> = BTreeMap::new();
        let mut open = VecDeque::from([from]);
        while let Some(file) = open.pop_front().filter(|file| *file != to) {
            for (next, import) in self.edges.get(file).into_iter().flatten() {
                if *next != from && !before.contains_key(next) {
                    before.insert(next, import);
                    open.push_back(next);
                }
            }
        }
        let mut way = Vec::new();
        let mut at = to;
        while let Some(import) = before.get(at).filter(|_| at != from) {
            way.insert(0, *import);
            at = &import.from;
        }
        way
    }
}

/// Whether a file is a part of another: a module may know what it is made of, and its parts may use what it holds.
fn is_own_part(whole: &str, part: &str) -> bool {
    let names = ["/mod.rs", "/lib.rs", "/main.rs", ".rs"];
    let folder = names
        .into_iter()
        .find_map(|name| whole.strip_suffix(name))
        .unwrap_or(whole);
    part.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Imports written as `from to`, a line each.
    fn graph(edges: &str) -> BTreeSet<Import> {
        let edges = edges.lines().map(str::trim).filter(|line| !line.is_empty());
        edges
            .enumerate()
            .map(|(at, edge)| {
                let (from, to) = edge.split_once(' ').unwrap();
                Import {
                    from: format!("src/{from}.rs"),
                    to: format!("src/{to}.rs"),
                    line: at + 1,
                    path: format!("crate::{to}"),
                }
            })
            .collect()
    }

    const LISTED: &[&[&str]] = &[&["src/a.rs", "src/b.rs"]];

    #[test]
    fn files_that_import_each_other_in_a_listed_circle_are_let_be() {
        assert_eq!(check(&graph("a b\n b a\n b c\n d a"), LISTED), Vec::<String>::new());
    }

    #[test]
    fn a_new_circle_is_reported_with_the_shortest_way_round() {
        let [wrong] = &check(&graph("a b\n b a\n c d\n d e\n e c\n d c"), LISTED)[..] else {
            panic!("not one")
        };
        assert!(
            wrong.contains("new:\n  src/c.rs:3 names crate::d of src/d.rs\n  src/d.rs:6 names crate::c of src/c.rs\n"),
            "{wrong}"
        );
    }

    #[test]
    fn a_file_that_joins_a_listed_circle_is_reported_with_the_import_that_joins_it() {
        let [wrong] = &check(&graph("a b\n b a\n b c\n c a"), LISTED)[..] else {
            panic!("not one")
        };
        assert!(wrong.contains("src/b.rs:3 names crate::c of src/c.rs"), "{wrong}");
        assert!(wrong.contains("src/c.rs:4 names crate::a of src/a.rs"), "{wrong}");
    }

    #[test]
    fn two_listed_circles_that_become_one_are_reported() {
        let listed: &[&[&str]] = &[&["src/a.rs", "src/b.rs"], &["src/c.rs", "src/d.rs"]];
        let wrong = check(&graph("a b\n b a\n c d\n d c\n a c\n d b"), listed);
        assert!(
            wrong.first().unwrap().contains("src/a.rs:5 names crate::c of src/c.rs"),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_listed_circle_that_is_gone_must_be_taken_off_the_list() {
        let [wrong] = &check(&graph("a b"), LISTED)[..] else {
            panic!("not one")
        };
        assert!(
            wrong.contains("not in a circle any more: src/a.rs, src/b.rs"),
            "{wrong}"
        );
    }

    #[test]
    fn a_file_that_has_left_a_listed_circle_must_be_taken_off_the_list() {
        let listed: &[&[&str]] = &[&["src/a.rs", "src/b.rs", "src/c.rs"]];
        let [wrong] = &check(&graph("a b\n b a\n b c"), listed)[..] else {
            panic!("not one")
        };
        assert!(wrong.contains("any more: src/c.rs\n"), "{wrong}");
    }

    #[test]
    fn a_listed_circle_that_has_fallen_apart_must_be_listed_as_its_parts() {
        let listed: &[&[&str]] = &[&["src/a.rs", "src/b.rs", "src/c.rs", "src/d.rs"]];
        let [wrong] = &check(&graph("a b\n b a\n b c\n c d\n d c"), listed)[..] else {
            panic!("not one")
        };
        assert!(
            wrong.contains("has become several:\n  src/a.rs, src/b.rs\n  src/c.rs, src/d.rs\n"),
            "{wrong}"
        );
    }

    #[test]
    fn a_module_and_its_own_parts_are_no_circle() {
        assert_eq!(
            check(&graph("a a/b\n a/b a\n c/mod c/d\n c/d c/mod\n lib c/d\n c/d lib"), &[]),
            Vec::<String>::new()
        );
        assert_eq!(check(&graph("a ab\n ab a"), &[]).len(), 1);
    }
}
