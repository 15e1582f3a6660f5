//! A run of named steps: each is announced, timed and, at the end, listed with its outcome.

use std::time::{Duration, Instant};

/// The steps of one run, in order.
pub(crate) struct Steps {
    done: Vec<Step>,
    started: Instant,
}

struct Step {
    name: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Steps {
    /// A run that starts now.
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), started: Instant::now() }
    }

    /// Runs one step. A failure is kept, and the run goes on: one run shows all that is wrong.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> bool {
        println!("\n── {name}");
        let started = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("   failed: {error:#}");
        }
        let outcome = match &result {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        self.done.push(Step { name: name.into(), took: started.elapsed(), outcome });
        result.is_ok()
    }

    /// Notes a step that was not run, and why. In a CI (`CI=true`) that is a failure.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("\n── {name}: skipped: {why}");
        let outcome = match crate::shell::is_ci() {
            true => Outcome::Failed(format!("skipped in CI: {why}")),
            false => Outcome::Skipped(why.into()),
        };
        self.done.push(Step { name: name.into(), took: Duration::ZERO, outcome });
    }

    /// Prints the table of times.
    ///
    /// # Errors
    /// When any step failed; the names are in the message.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let width = self.done.iter().map(|step| step.name.len()).max().unwrap_or(0);
        println!("\n{:width$}  seconds  outcome", "step");
        for step in &self.done {
            let outcome = match &step.outcome {
                Outcome::Passed => "ok".to_owned(),
                Outcome::Skipped(why) => format!("skipped: {why}"),
                Outcome::Failed(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
            };
            println!("{:width$}  {:7.1}  {outcome}", step.name, step.took.as_secs_f64());
        }
        println!("{:width$}  {:7.1}", "all", self.started.elapsed().as_secs_f64());
        let is_failed = |step: &&Step| matches!(step.outcome, Outcome::Failed(_));
        let failed: Vec<_> = self.done.iter().filter(is_failed).map(|step| step.name.as_str()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(anyhow::anyhow!("{}", failed.join(", ")))
    }
}
