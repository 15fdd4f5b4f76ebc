//! A short difference between two texts: enough to see what it is about.

/// How many lines of each side are shown.
const SHOWN: usize = 8;

/// The lines between the texts' common beginning and common end, with the number of the first; empty for equal texts.
pub(crate) fn short(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (
        old.get(start..).unwrap_or_default(),
        new.get(start..).unwrap_or_default(),
    );
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let mut told = vec![format!("  from line {}:\n", start + 1)];
    for (sign, lines) in [('-', old), ('+', new)] {
        let differing = lines.len() - end;
        told.extend(
            lines
                .iter()
                .take(differing.min(SHOWN))
                .map(|line| format!("  {sign} {line}\n")),
        );
        if differing > SHOWN {
            told.push(format!("  {sign} … {} more lines\n", differing - SHOWN));
        }
    }
    told.concat()
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn equal_texts_have_none() {
        assert_eq!(short("a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn what_is_common_is_left_out() {
        assert_eq!(short("a\nb\nc\n", "a\nx\nc\n"), "  from line 2:\n  - b\n  + x\n");
    }

    #[test]
    fn an_added_line_is_shown_alone() {
        assert_eq!(short("a\na\n", "a\na\na\n"), "  from line 3:\n  + a\n");
    }

    #[test]
    fn long_differences_are_cut() {
        let long = "line\n".repeat(20);
        assert!(short("", &long).ends_with("  + … 12 more lines\n"));
    }
}
