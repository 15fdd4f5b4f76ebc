//! The order of the code, as far as the compiler does not keep it: no circles of files, no import against the order of
//! layers, and one place that decides about tenants. What is there today is listed in `today.rs`, and those lists only ever
//! shrink.
//!
//! Only imports and paths are read: what a method of a shared type does in another file is not seen here.

mod circles;
mod floors;
mod modules;
mod syntax;
mod tenants;
mod today;
mod tokens;

use std::{fs, path::Path};

use modules::Modules;

fn read(root: &str) -> Result<Modules, String> {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    Modules::read(root, &|file| fs::read_to_string(clone.join(file)).ok())
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n\n{}\n", wrong.join("\n\n"));
}

#[test]
fn no_circle_of_files_is_there_that_is_not_listed() {
    let roots = [
        "src/lib.rs",
        "xtask/src/main.rs",
        "xtask/commands/src/main.rs",
        "tests/bed/src/lib.rs",
        "tests/bed/programs/src/lib.rs",
    ];
    let imports = roots
        .map(|root| read(root).unwrap().imports())
        .into_iter()
        .flatten()
        .collect();
    none(&circles::check(&imports, today::CIRCLES));
}

#[test]
fn no_import_goes_against_the_order_of_layers_that_is_not_listed() {
    let modules = read("src/lib.rs").unwrap();
    none(&floors::check(
        &modules.files(),
        &modules.imports(),
        today::FLOORS,
        today::EXCEPTIONS,
    ));
}

#[test]
fn the_tenants_of_a_registry_are_read_where_access_is_decided_and_nowhere_else() {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = read("src/lib.rs").unwrap();
    let readers: Vec<&str> = modules
        .files()
        .into_iter()
        .filter(|file| !tenants::readings(&fs::read_to_string(clone.join(file)).unwrap()).is_empty())
        .collect();
    assert_eq!(readers, ["src/controllers/access.rs"]);
}
