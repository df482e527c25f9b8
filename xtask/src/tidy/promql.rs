//! The names in a PromQL expression. No parser: whatever is no string, number, duration, keyword,
//! function or label is taken for a metric.

use std::collections::BTreeSet;

/// Keywords that a list of labels follows.
const LABEL_LISTS: [&str; 6] = [
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "on",
    "without",
];
const OPERATORS: [&str; 6] = ["and", "atan2", "bool", "offset", "or", "unless"];

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) metrics: BTreeSet<String>,
    /// In matchers and in lists of labels.
    pub(super) labels: BTreeSet<String>,
}

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Symbol(char),
}

/// The names in `expression`.
pub(super) fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let tokens = tokens(expression);
    // Inside a matcher `{}`, or a list of labels `()`: what ends it.
    let mut labels_until = None;
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        match token {
            Token::Symbol('{') => labels_until = Some('}'),
            Token::Symbol(symbol) if labels_until == Some(*symbol) => labels_until = None,
            Token::Symbol(_) => {}
            Token::Name(name) if labels_until.is_some() => _ = names.labels.insert(name.clone()),
            Token::Name(name) if LABEL_LISTS.contains(&name.as_str()) => {
                labels_until = (next == Some(&Token::Symbol('('))).then_some(')');
            }
            Token::Name(name) if OPERATORS.contains(&name.as_str()) || is_called(next) => {}
            Token::Name(name) => _ = names.metrics.insert(name.clone()),
        }
    }
    names
}

/// Whether the name before it is that of a function or an aggregation.
fn is_called(next: Option<&Token>) -> bool {
    match next {
        Some(Token::Symbol(symbol)) => *symbol == '(',
        Some(Token::Name(name)) => name == "by" || name == "without",
        None => false,
    }
}

/// Names and symbols; strings, numbers, durations and variables are left out.
fn tokens(expression: &str) -> Vec<Token> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '"' | '\'' | '`' => {
                while let Some(c) = rest.next().filter(|c| *c != first) {
                    // The backquote knows no escapes.
                    if c == '\\' && first != '`' {
                        rest.next();
                    }
                }
            }
            '[' => while rest.next().is_some_and(|c| c != ']') {},
            _ if first == '$' || first.is_ascii_digit() => {
                while rest.next_if(|c| is_part(*c) || *c == '.').is_some() {}
            }
            _ if is_part(first) => {
                let mut name = first.to_string();
                while let Some(c) = rest.next_if(|c| is_part(*c)) {
                    name.push(c);
                }
                tokens.push(Token::Name(name));
            }
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token::Symbol(first)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, metrics: &[&str], labels: &[&str]) {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = Names {
            metrics: set(metrics),
            labels: set(labels),
        };
        assert_eq!(names(expression), expected, "{expression}");
    }

    #[test]
    fn metrics_and_labels_are_told_from_everything_else() {
        check("up == 0", &["up"], &[]);
        check("max by (a, b) (x) > 0", &["x"], &["a", "b"]);
        check(
            "sum(x) by (a) / on (b) group_left y",
            &["x", "y"],
            &["a", "b"],
        );
        check(
            r#"rate(x_total{a="}b{", c=~'d\'e',f="$g"}[5m] offset 1h) > bool 1.5e3"#,
            &["x_total"],
            &["a", "c", "f"],
        );
        check(
            "histogram_quantile(0.99, sum by (le) (rate(x_bucket[$__rate_interval]))) unless y",
            &["x_bucket", "y"],
            &["le"],
        );
        check(
            "predict_linear(x[6h], 24 * 3600) < 0 and -y / z < 0.4 or absent(w{a!=`\\`})",
            &["w", "x", "y", "z"],
            &["a"],
        );
        check("rule:x:rate5m", &["rule:x:rate5m"], &[]);
    }
}
