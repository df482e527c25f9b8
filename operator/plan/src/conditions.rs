//! Conditions of a status, and the events that tell of their changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Longest message; more is cut, as every broker's reason may end up in it.
const MESSAGE_LEN_MAX: usize = 512;

/// What a condition says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub truth: Truth,
    /// CamelCase.
    pub reason: &'static str,
    pub message: String,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    #[must_use]
    pub fn new(truth: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason,
            message: message.into(),
        }
    }

    /// The condition of that type. The time of its last transition stays unless its truth changed:
    /// a status that always differs would be written without end.
    #[must_use]
    pub fn into_condition(
        mut self,
        type_: &str,
        former: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let former = find(former, type_).filter(|former| former.status == self.truth.as_str());
        if let Some((end, _)) = self.message.char_indices().nth(MESSAGE_LEN_MAX) {
            self.message.truncate(end);
        }
        Condition {
            type_: type_.to_owned(),
            status: self.truth.as_str().to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: former
                .map_or(Time(now), |former| former.last_transition_time.clone()),
        }
    }
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Something that users should hear of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    pub severity: Severity,
    /// CamelCase.
    pub reason: String,
    pub message: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    Normal,
    Warning,
}

/// A notice for each condition whose truth or reason changed. `bad` names the status in which a
/// condition of that type is a warning.
#[must_use]
pub fn changes(
    former: &[Condition],
    current: &[Condition],
    bad: fn(type_: &str) -> Truth,
) -> Vec<Notice> {
    let changed = |condition: &&Condition| {
        find(former, &condition.type_).is_none_or(|former| {
            (&former.status, &former.reason) != (&condition.status, &condition.reason)
        })
    };
    let notice = |condition: &Condition| Notice {
        severity: if condition.status == bad(&condition.type_).as_str() {
            Severity::Warning
        } else {
            Severity::Normal
        },
        reason: condition.reason.clone(),
        message: format!(
            "{}={}: {}",
            condition.type_, condition.status, condition.message
        ),
    };
    current.iter().filter(changed).map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(truth: Truth, reason: &'static str, former: &[Condition], now: i64) -> Condition {
        let now = Timestamp::from_second(now).unwrap();
        Verdict::new(truth, reason, "m").into_condition("Ready", former, Some(1), now)
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = condition(Truth::False, "BrokersStarting", &[], 10);
        let same = condition(
            Truth::False,
            "NoController",
            std::slice::from_ref(&first),
            20,
        );
        assert_eq!(same.last_transition_time, first.last_transition_time);
        let ready = condition(Truth::True, "Serving", std::slice::from_ref(&same), 30);
        assert_eq!(ready.last_transition_time.0.as_second(), 30);
    }

    #[test]
    fn changes_are_told_once() {
        let starting = vec![condition(Truth::False, "BrokersStarting", &[], 10)];
        let ready = vec![condition(Truth::True, "Serving", &starting, 20)];
        let told = changes(&starting, &ready, |_| Truth::False);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].severity, Severity::Normal);
        assert_eq!(
            changes(&[], &starting, |_| Truth::False)[0].severity,
            Severity::Warning
        );
        assert!(changes(&ready, &ready, |_| Truth::False).is_empty());
    }
}
