//! The tests that were run, as the test programs themselves count them.

use std::fmt;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    passed: u64,
    failed: u64,
}

impl Sum {
    /// Adds up lines like `test result: ok. 26 passed; 0 failed; 1 ignored; …`, coloured or not.
    pub(super) fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let counted = |what: &str| -> u64 {
            let before = counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
            before.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
        };
        self.passed += counted("passed");
        self.failed += counted("failed");
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added_up() {
        let mut sum = Sum::default();
        sum.read("test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.42s");
        sum.read("test result: \u{1b}[31mFAILED\u{1b}[0m. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        sum.read("test a_test ... ok");
        assert_eq!(sum, Sum { passed: 29, failed: 2 });
    }
}
