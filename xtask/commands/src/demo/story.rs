//! Numbered steps with a name, some prose and an outcome.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, anyhow};

/// Tells steps as they are taken and counts how they ended.
#[derive(Debug)]
pub(crate) struct Story {
    fail_step: Option<u32>,
    steps: u32,
    failed: u32,
}

impl Story {
    /// The step numbered `fail_step` will fail whatever it does.
    pub(crate) fn new(fail_step: Option<u32>) -> Self {
        Self {
            fail_step,
            steps: 0,
            failed: 0,
        }
    }

    /// Takes one step. `title` says what is to be seen, `prose` what is done for it, over as many lines as it needs.
    ///
    /// Gives what the step brought, or nothing if it failed: a step that others need is followed by `?`.
    pub(crate) async fn step<T>(
        &mut self,
        title: &str,
        prose: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
        for line in prose.lines() {
            println!("   {}", line.trim());
        }
        // It may take a while, and stdout may be a pipe.
        std::io::stdout().flush().ok();
        let start = Instant::now();
        let result = work.await;
        let seconds = start.elapsed().as_secs_f64();
        let result = match result {
            Ok(_) if self.fail_step == Some(self.steps) => Err(anyhow!("it was done, and --fail-step lets it fail")),
            result => result,
        };
        match result {
            Ok(brought) => {
                println!("   ok ({seconds:.1} s)");
                Some(brought)
            }
            Err(error) => {
                self.failed += 1;
                println!("   FAILED ({seconds:.1} s): {error:#}");
                None
            }
        }
    }

    /// Prints the last line; says whether all went well. Naming a step to fail that was never taken is a failure too.
    pub(crate) fn end(mut self) -> bool {
        if let Some(step) = self.fail_step.filter(|step| *step > self.steps) {
            println!("\nthere was no step {step} to fail");
            self.failed += 1;
        }
        println!("\ndemo: {} steps, {} failed", self.steps, self.failed);
        self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_story_of_good_steps_ends_well() {
        let mut story = Story::new(None);
        assert_eq!(story.step("one", "", async { Ok(1) }).await, Some(1));
        assert!(story.end());
    }

    #[tokio::test]
    async fn one_failed_step_is_enough_to_fail() {
        let mut story = Story::new(None);
        assert_eq!(story.step("one", "", async { Err::<(), _>(anyhow!("no")) }).await, None);
        assert_eq!(story.step("two", "", async { Ok(2) }).await, Some(2));
        assert!(!story.end());
    }

    #[tokio::test]
    async fn a_step_can_be_made_to_fail() {
        let mut story = Story::new(Some(2));
        assert_eq!(story.step("one", "", async { Ok(1) }).await, Some(1));
        assert_eq!(story.step("two", "", async { Ok(2) }).await, None);
        assert!(!story.end());
    }

    #[test]
    fn a_step_that_never_came_cannot_be_made_to_fail() {
        assert!(!Story::new(Some(1)).end());
    }
}
