//! `cargo xtask generate`: the files that are derived from the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bed::root;

use crate::diff;

/// Folders that hold generated files and nothing else: what is not generated any more is removed from them.
const WHOLLY_GENERATED: [&str; 2] = ["crds", "charts/ecr-operator/templates/crds"];

/// Writes the CRDs and whatever else is derived from the code
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask generate           after a change to the API types
  cargo xtask generate --check   what CI does")]
pub(crate) struct Arguments {
    /// Write nothing; show what differs and exit with 1 if anything does
    #[arg(long)]
    check: bool,
}

/// What is to be: paths relative to the clone's folder, with contents.
fn generated() -> Result<Vec<(PathBuf, String)>> {
    ecr_operator::generated::files().context("the types could not be turned into schemas")
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.check {
        return Ok(if check()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let changes = changes(&root(), &generated()?)?;
    for change in &changes {
        change.make(&root())?;
        println!("{}", change.told());
    }
    println!("{} changed", files(changes.len()));
    Ok(ExitCode::SUCCESS)
}

/// Prints what differs; says whether nothing does.
pub(crate) fn check() -> Result<bool> {
    let generated = generated()?;
    let changes = changes(&root(), &generated)?;
    for change in &changes {
        println!("{}", change.told());
        print!("{}", change.difference);
    }
    if changes.is_empty() {
        println!("{} in step with the code", files(generated.len()));
    } else {
        println!(
            "{} out of step with the code: run `cargo xtask generate`",
            files(changes.len())
        );
    }
    Ok(changes.is_empty())
}

fn files(count: usize) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// One file that is not as it should be.
#[derive(Debug)]
struct Change {
    path: PathBuf,
    /// `None`: it should not be there.
    wanted: Option<String>,
    difference: String,
}

impl Change {
    fn make(&self, root: &Path) -> Result<()> {
        let path = root.join(&self.path);
        let result = match &self.wanted {
            None => fs::remove_file(&path),
            Some(text) => path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, text)),
        };
        result.with_context(|| format!("changing {}", path.display()))
    }

    fn told(&self) -> String {
        let what = if self.wanted.is_some() {
            "differs"
        } else {
            "is not generated any more"
        };
        format!("{} {what}", self.path.display())
    }
}

/// What has to change below `root` for it to hold `generated`, in the order of paths.
fn changes(root: &Path, generated: &[(PathBuf, String)]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (path, wanted) in generated {
        // A missing file is an empty one to the difference.
        let present = fs::read_to_string(root.join(path)).ok();
        if present.as_ref() != Some(wanted) {
            let difference = diff::short(&present.unwrap_or_default(), wanted);
            changes.push(Change {
                path: path.clone(),
                wanted: Some(wanted.clone()),
                difference,
            });
        }
    }
    for folder in WHOLLY_GENERATED {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if !generated.iter().any(|(wanted, _)| *wanted == path) {
                changes.push(Change {
                    path,
                    wanted: None,
                    difference: String::new(),
                });
            }
        }
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed at the end of its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Result<Self> {
            let path = std::env::temp_dir().join(format!("xtask-generate-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("crds"))?;
            Ok(Self(path))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn wanted() -> Vec<(PathBuf, String)> {
        vec![
            ("crds/a.yaml".into(), "a: 1\nb: 2\n".into()),
            ("docs/reasons.md".into(), "# Reasons\n".into()),
        ]
    }

    #[test]
    fn what_was_written_is_in_step() -> Result<()> {
        let folder = Folder::new("written")?;
        for change in changes(&folder.0, &wanted())? {
            change.make(&folder.0)?;
        }
        assert_eq!(fs::read_to_string(folder.0.join("docs/reasons.md"))?, "# Reasons\n");
        assert!(changes(&folder.0, &wanted())?.is_empty());
        Ok(())
    }

    #[test]
    fn an_edited_file_is_told_with_its_difference() -> Result<()> {
        let folder = Folder::new("edited")?;
        fs::write(folder.0.join("crds/a.yaml"), "a: 1\nb: 3\n")?;
        let changes = changes(&folder.0, &wanted()[..1])?;
        let differences: Vec<&str> = changes.iter().map(|change| change.difference.as_str()).collect();
        assert_eq!(differences, ["  from line 2:\n  - b: 3\n  + b: 2\n"]);
        Ok(())
    }

    #[test]
    fn a_stale_file_goes_from_a_generated_folder_and_from_no_other() -> Result<()> {
        let folder = Folder::new("stale")?;
        fs::create_dir_all(folder.0.join("docs"))?;
        for path in ["crds/old.yaml", "docs/own.md"] {
            fs::write(folder.0.join(path), "")?;
        }
        for change in changes(&folder.0, &wanted())? {
            change.make(&folder.0)?;
        }
        assert!(!folder.0.join("crds/old.yaml").exists());
        assert!(folder.0.join("docs/own.md").exists());
        Ok(())
    }
}
