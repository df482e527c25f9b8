//! Pure crates decide and never act: no clock, no files, no network, no threads, no randomness, so
//! that every decision can be replayed.

use super::source::SourceFile;

const PURE: [&str; 5] = [
    "broker/core/src/",
    "broker/wire/src/",
    "placement/src/",
    "operator/plan/src/",
    "crds/src/",
];

/// `HashMap` and `HashSet` are seeded at random: what iterates over one differs from run to run.
const FORBIDDEN: [&str; 13] = [
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "rand::",
    "tokio",
];

pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let is_pure = |file: &&SourceFile| {
        file.is_rust() && !file.is_test() && PURE.iter().any(|pure| file.path.starts_with(pure))
    };
    let mut violations = Vec::new();
    for file in files.iter().filter(is_pure) {
        for (number, line) in file.production_lines() {
            let code = line.split("//").next().unwrap_or(line);
            for word in FORBIDDEN.iter().filter(|word| contains_word(code, word)) {
                violations.push(format!("{}:{number}: {word} in a pure crate", file.path));
            }
        }
    }
    violations
}

/// Whether `word` occurs in `code` other than as the end of a longer name.
fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_found_in_production_code_of_pure_crates_only() {
        let text =
            "// std::fs\nlet now = Instant::now();\n#[cfg(test)]\nmod tests {\nstd::fs::read();\n";
        let file = |path: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [file("broker/core/src/a.rs"), file("broker/src/a.rs")];
        assert_eq!(
            check(&files),
            ["broker/core/src/a.rs:2: Instant::now in a pure crate"]
        );
    }

    #[test]
    fn longer_names_are_other_words() {
        assert!(!contains_word("operand::x", "rand::"));
        assert!(contains_word("use rand::Rng;", "rand::"));
    }
}
