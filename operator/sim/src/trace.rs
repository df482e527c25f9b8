//! What happened, one readable line for each event. Off unless asked for: a run's result does not
//! depend on it.

use std::fmt::Display;

/// Simulated seconds since the start of the run.
pub(crate) type Seconds = i64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn recording() -> Self {
        Self {
            lines: Some(Vec::new()),
        }
    }

    /// `line` is evaluated when lines are recorded only.
    pub(crate) fn add<L: Display>(
        &mut self,
        now: Seconds,
        who: impl Display,
        line: impl FnOnce() -> L,
    ) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("t={now:>4}s  {who:<11}  {}", line()));
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
