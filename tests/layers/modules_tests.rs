use super::*;

/// What the files of a crate name of each other, as `from:line path -> to`.
fn imports(files: &[(&str, &str)]) -> Vec<String> {
    let read = |wanted: &str| {
        let found = files.iter().find(|(file, _)| format!("src/{file}") == wanted);
        found.map(|(_, text)| (*text).to_owned())
    };
    let short = |file: &str| file.trim_start_matches("src/").to_owned();
    let modules = Modules::read("src/lib.rs", &read).unwrap();
    let found = modules.imports().into_iter();
    found
        .map(|import| {
            format!(
                "{}:{} {} -> {}",
                short(&import.from),
                import.line,
                import.path,
                short(&import.to)
            )
        })
        .collect()
}

#[test]
fn trees_are_read_with_braces_self_and_renames() {
    let found = imports(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "use crate::{\n  b::{self, c::{C, D as E}, F as _},\n  b::c::{self as g},\n};\nuse std::fmt;\nfn f() { g::x(); b::y() }",
        ),
        ("b.rs", "pub(crate) mod c;"),
        ("b/c.rs", ""),
    ]);
    let expected = [
        "a.rs:6 b::y -> b.rs",
        "a.rs:2 crate::b::F -> b.rs",
        "a.rs:2 crate::b::c::C -> b/c.rs",
        "a.rs:2 crate::b::c::D -> b/c.rs",
        "a.rs:6 g::x -> b/c.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn self_and_super_are_followed_from_modules_in_files_and_within_them() {
    let found = imports(&[
        ("lib.rs", "mod a; mod z;"),
        (
            "a/mod.rs",
            "mod b; mod inner { use super::super::z::Z; use super::b::B; mod more { use super::super::super::z::Y; } }",
        ),
        (
            "a/b.rs",
            "use super::super::z::X; use self::c::W; use super::V; use self::super::U; mod c;",
        ),
        ("a/b/c.rs", "use super::super::super::z::T;"),
        ("z.rs", ""),
    ]);
    let expected = [
        "a/b.rs:1 self::c::W -> a/b/c.rs",
        "a/b.rs:1 self::super::U -> a/mod.rs",
        "a/b.rs:1 super::V -> a/mod.rs",
        "a/b.rs:1 super::super::z::X -> z.rs",
        "a/b/c.rs:1 super::super::super::z::T -> z.rs",
        "a/mod.rs:1 super::b::B -> a/b.rs",
        "a/mod.rs:1 super::super::super::z::Y -> z.rs",
        "a/mod.rs:1 super::super::z::Z -> z.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn paths_within_code_macros_and_attributes_count() {
    let found = imports(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            r#"
fn f(x: &dyn crate::b::Trait) { let y = format!("{}", crate::b::g()); Vec::<crate::b::H>::new(); <X as crate::b::I>::j() }
macro_rules! m { () => { $crate::b::K } }
#[serde(default = "crate::b::l")]
struct S;
pub(in crate::b) struct T;
use ::b::M;
fn g() -> impl Iterator + use<'static> {}
"#,
        ),
        ("b.rs", ""),
    ]);
    let expected = [
        "a.rs:2 crate::b::H -> b.rs",
        "a.rs:2 crate::b::I -> b.rs",
        "a.rs:2 crate::b::Trait -> b.rs",
        "a.rs:2 crate::b::g -> b.rs",
        "a.rs:3 crate::b::K -> b.rs",
        "a.rs:4 crate::b::l -> b.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn a_child_is_named_without_any_import() {
    let found = imports(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod plan;\nfn f() { plan::g(); other::h() }"),
        ("a/plan.rs", "use super::f;"),
    ]);
    assert_eq!(found, ["a.rs:2 plan::g -> a/plan.rs", "a/plan.rs:1 super::f -> a.rs"]);
}

#[test]
fn what_is_exported_again_counts_as_what_it_is() {
    let found = imports(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::{Deep, c, Outer, Foreign};\nfn f() { c::x() }"),
        (
            "b/mod.rs",
            "mod c; mod d; pub use c::Deep; pub use self::d::Inner as Outer; pub use other::Foreign;",
        ),
        ("b/c.rs", ""),
        ("b/d.rs", ""),
    ]);
    let expected = [
        "a.rs:1 crate::b::Deep -> b/c.rs",
        "a.rs:1 crate::b::Foreign -> b/mod.rs",
        "a.rs:1 crate::b::Outer -> b/d.rs",
        "a.rs:2 c::x -> b/c.rs",
        "b/mod.rs:1 c::Deep -> b/c.rs",
        "b/mod.rs:1 self::d::Inner -> b/d.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn everything_of_a_module_is_named_by_a_star() {
    let found = imports(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::*;"), ("b.rs", "")]);
    assert_eq!(found, ["a.rs:1 crate::b::* -> b.rs"]);
}

#[test]
fn what_only_tests_compile_is_left_out() {
    let found = imports(&[
        ("lib.rs", "mod a; mod b; mod c; #[cfg(test)] mod missing;"),
        (
            "a.rs",
            r#"
#[cfg(test)] use crate::b::One;
#[cfg(test)] #[allow(dead_code)] pub(crate) fn two<T, U>(x: T) -> U { crate::b::two() }
#[cfg(all(test, feature = "x"))] const THREE: [u8; 1] = [crate::b::THREE];
#[test] fn four() { crate::b::four() }
#[tokio::test] async fn five() { crate::b::five() }
struct S { #[cfg(test)] six: crate::b::Six, seven: crate::b::Seven }
#[cfg(not(test))] use crate::b::Eight;
#[cfg(any(test, unix))] use crate::b::Nine;
#[cfg(test)] mod tests { use crate::b::Ten; }
#[cfg(test)] #[path = "a_tests.rs"] mod more;
#[cfg(test)] impl S { fn eleven() { crate::b::eleven() } }
use crate::b::Twelve;
"#,
        ),
        ("b.rs", ""),
        ("c.rs", "#![cfg(test)] use crate::b::Thirteen;"),
    ]);
    let expected = [
        "a.rs:7 crate::b::Seven -> b.rs",
        "a.rs:8 crate::b::Eight -> b.rs",
        "a.rs:9 crate::b::Nine -> b.rs",
        "a.rs:13 crate::b::Twelve -> b.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn a_module_may_say_where_its_file_is() {
    let found = imports(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "#[path = \"../src/other.rs\"] mod c; mod in_a { #[path = \"d.rs\"] mod d; }",
        ),
        ("other.rs", "mod e; use crate::b::C;"),
        ("e.rs", "use super::super::super::b::E;"),
        ("a/in_a/d.rs", "use crate::b::D;"),
        ("b.rs", ""),
    ]);
    let expected = [
        "a/in_a/d.rs:1 crate::b::D -> b.rs",
        "e.rs:1 super::super::super::b::E -> b.rs",
        "other.rs:1 crate::b::C -> b.rs",
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn a_module_without_a_file_is_an_error() {
    let read = |file: &str| (file == "src/lib.rs").then(|| "mod a;".to_owned());
    let error = Modules::read("src/lib.rs", &read).unwrap_err();
    assert_eq!(error, "src/lib.rs: no file for mod a");
}

#[test]
fn a_file_that_cannot_be_followed_to_its_end_is_an_error() {
    for text in ["fn f() { (", "fn f() { ( }", "}"] {
        let error = Modules::read("src/lib.rs", &|_| Some(text.to_owned())).unwrap_err();
        assert!(error.starts_with("src/lib.rs:1: brackets"), "{error}");
    }
}

#[test]
fn imports_that_name_each_other_end() {
    let found = imports(&[("lib.rs", "use a::x as b; use b::y as a; fn f() { a::z() }")]);
    assert!(found.is_empty(), "{found:?}");
}

fn sorted<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut list: Vec<String> = list.into_iter().map(|one| one.to_string()).collect();
    list.sort();
    list
}
