//! What happened, one readable line for each event. Off unless asked for: a run's result does not
//! depend on it.

use std::fmt::Display;

/// Simulated microseconds since the start of the run.
pub(crate) type Micros = u64;

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
        now: Micros,
        who: impl Display,
        line: impl FnOnce() -> L,
    ) {
        if let Some(lines) = &mut self.lines {
            let (seconds, millis) = (now / 1_000_000, now / 1000 % 1000);
            lines.push(format!("t={seconds}.{millis:03}s  {who:<11}  {}", line()));
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
