//! Rules of the code base that a compiler does not know.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

fn sources(folder: PathBuf) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Decisions are pure: they name no client, no runtime and no clock.
#[test]
fn the_files_that_decide_do_no_io() -> Result<()> {
    let mut looked_at = 0;
    for path in sources(bed::root().join("src"))? {
        let shown = path.strip_prefix(bed::root())?.display().to_string();
        let decides = shown.contains("src/document/")
            || ["src/events/message.rs", "src/events/flood.rs"].contains(&shown.as_str())
            || shown.contains("src/promotion/")
            || [
                "src/in_use/collect.rs",
                "src/in_use/protect.rs",
                "src/in_use/report.rs",
                "src/in_use/shown.rs",
                "src/in_use/usage.rs",
                "src/controllers/pull_secret/entries.rs",
                "src/controllers/pull_secret/scope.rs",
                "src/controllers/registry/documents/part.rs",
                "src/controllers/registry/documents/told.rs",
            ]
            .contains(&shown.as_str())
            || (shown.contains("src/controllers/")
                && ["plan.rs", "gate.rs", "desired.rs"]
                    .iter()
                    .any(|name| shown.ends_with(name)));
        if !decides {
            continue;
        }
        looked_at += 1;
        let text = fs::read_to_string(&path)?;
        for word in [
            "kube::Client",
            "aws::client::Ecr",
            "async fn",
            "kube::Api",
            "kube::client",
            "reqwest",
            "Timestamp::now",
            "Zoned::now",
            "Instant::now",
            "SystemTime",
        ] {
            ensure!(!text.contains(word), "{shown} names {word}");
        }
        // A lock may be handed through a plan of the loop; the engine of promotions waits for nothing.
        ensure!(
            !shown.contains("src/promotion/") || !text.contains("tokio"),
            "{shown} names tokio"
        );
    }
    ensure!(looked_at >= 45, "only {looked_at} files were found");
    Ok(())
}

/// `src/aws/` is the only place that names the SDK.
#[test]
fn the_sdk_is_named_in_one_place() -> Result<()> {
    for path in sources(bed::root().join("src"))? {
        let shown = path.strip_prefix(bed::root())?.display().to_string();
        let text = fs::read_to_string(&path)?;
        let names = ["aws_sdk", "aws_config", "aws_smithy", "aws_types"]
            .iter()
            .any(|word| text.contains(word));
        ensure!(!names || shown.contains("src/aws/"), "{shown} names the SDK");
    }
    Ok(())
}

/// Images can be deleted by one call in one file, which takes nothing but a tag on the manifest that holds nothing.
#[test]
fn images_are_deleted_in_one_place() -> Result<()> {
    for path in sources(bed::root().join("src"))? {
        let shown = path.strip_prefix(bed::root())?.display().to_string();
        if shown.ends_with("_tests.rs") {
            // These play the people who delete images.
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let calls = text.matches("batch_delete_image").count();
        let most = usize::from(shown == "src/aws/parking.rs");
        ensure!(calls == most, "{shown} calls batch_delete_image {calls} times");
        ensure!(
            shown == "src/aws/parking.rs" || !text.contains("ReleasedTag("),
            "{shown} makes a ReleasedTag by itself"
        );
    }
    Ok(())
}
