//! The order of layers: a file imports only from layers that stand on a lower floor than its own.

use std::collections::BTreeSet;

use crate::modules::Import;

/// What is wrong: files of no layer, layers of no file, imports against the order that are not listed, and listed ones that
/// are not there. A floor is a list of layers that do not know each other; the highest comes first. A layer is a file or
/// folder of `src`.
pub(crate) fn check(
    files: &BTreeSet<&str>,
    imports: &BTreeSet<Import>,
    floors: &[&[&str]],
    listed: &[(&str, &str)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let floor_of = |layer: &str| floors.iter().position(|floor| floor.contains(&layer));
    for file in files.iter().filter(|file| floor_of(layer_of(file)).is_none()) {
        wrong.push(format!(
            "{file} is in no layer: give {} a floor in FLOORS of tests/layers/today.rs.",
            layer_of(file)
        ));
    }
    for layer in floors
        .iter()
        .copied()
        .flatten()
        .filter(|layer| !files.iter().any(|file| layer_of(file) == **layer))
    {
        wrong.push(format!(
            "the layer {layer} has no file: take it off FLOORS in tests/layers/today.rs."
        ));
    }
    let mut unused: BTreeSet<(&str, &str)> = listed.iter().copied().collect();
    for import in imports {
        let (from, to) = (layer_of(&import.from), layer_of(&import.to));
        let (Some(above), Some(below)) = (floor_of(from), floor_of(to)) else {
            continue;
        };
        if from == to || above < below {
            continue;
        }
        let pair = (import.from.as_str(), import.to.as_str());
        unused.remove(&pair);
        if !listed.contains(&pair) {
            let stands = if above == below { "beside" } else { "below" };
            wrong.push(format!(
                "{}:{} names {} of {}, but {from} stands {stands} {to}.\n  Move what both need to a layer below both, or pass it in \
                 as an argument. Do not list the import: EXCEPTIONS in tests/layers/today.rs only ever shrinks.",
                import.from, import.line, import.path, import.to
            ));
        }
    }
    for (from, to) in unused {
        wrong.push(format!(
            "{from} imports nothing of {to} against the order any more: take the pair off EXCEPTIONS in tests/layers/today.rs."
        ));
    }
    wrong
}

/// The layer of a file: the first folder below `src`, or the file that stands there.
fn layer_of(file: &str) -> &str {
    let below = file.split_once('/').map_or(file, |(_, below)| below);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOORS: &[&[&str]] = &[&["top"], &["left", "right"], &["bottom"]];

    fn imports(edges: &[(&str, &str)]) -> BTreeSet<Import> {
        let import = |(from, to): &(&str, &str)| Import {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            line: 7,
            path: "crate::x::Y".to_owned(),
        };
        edges.iter().map(import).collect()
    }

    fn wrong(edges: &[(&str, &str)], listed: &[(&str, &str)]) -> Vec<String> {
        let files = BTreeSet::from([
            "src/top.rs",
            "src/left/mod.rs",
            "src/left/a.rs",
            "src/right.rs",
            "src/bottom.rs",
        ]);
        check(&files, &imports(edges), FLOORS, listed)
    }

    #[test]
    fn imports_within_a_layer_and_from_lower_floors_are_in_order() {
        let edges = [
            ("src/top.rs", "src/bottom.rs"),
            ("src/top.rs", "src/left/mod.rs"),
            ("src/left/a.rs", "src/left/mod.rs"),
            ("src/right.rs", "src/bottom.rs"),
        ];
        assert_eq!(wrong(&edges, &[]), Vec::<String>::new());
    }

    #[test]
    fn an_import_from_above_or_from_the_same_floor_is_reported_with_its_line() {
        let upwards = wrong(&[("src/bottom.rs", "src/left/a.rs")], &[]);
        assert!(
            upwards.len() == 1
                && upwards[0]
                    .starts_with("src/bottom.rs:7 names crate::x::Y of src/left/a.rs, but bottom stands below left.\n"),
            "{upwards:?}"
        );
        let sideways = wrong(&[("src/left/a.rs", "src/right.rs")], &[]);
        assert!(
            sideways.len() == 1 && sideways[0].contains("left stands beside right"),
            "{sideways:?}"
        );
    }

    #[test]
    fn a_listed_exception_is_let_be_and_only_between_its_two_files() {
        let listed = [("src/bottom.rs", "src/left/a.rs")];
        assert_eq!(wrong(&listed, &listed), Vec::<String>::new());
        let more = [("src/bottom.rs", "src/left/a.rs"), ("src/bottom.rs", "src/left/mod.rs")];
        assert_eq!(wrong(&more, &listed).len(), 1);
    }

    #[test]
    fn a_listed_exception_that_is_gone_must_be_taken_off_the_list() {
        let gone = wrong(&[], &[("src/bottom.rs", "src/left/a.rs")]);
        assert!(
            gone.len() == 1 && gone[0].starts_with("src/bottom.rs imports nothing of src/left/a.rs"),
            "{gone:?}"
        );
    }

    #[test]
    fn every_file_has_a_layer_and_every_layer_a_file() {
        let files = BTreeSet::from(["src/top.rs", "src/left.rs", "src/right.rs", "src/new/mod.rs"]);
        let wrong = check(&files, &BTreeSet::new(), FLOORS, &[]);
        assert!(wrong.len() == 2, "{wrong:?}");
        assert!(
            wrong[0].starts_with("src/new/mod.rs is in no layer: give new a floor"),
            "{wrong:?}"
        );
        assert!(wrong[1].starts_with("the layer bottom has no file"), "{wrong:?}");
    }
}
