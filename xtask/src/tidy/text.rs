//! Rules about text: files that must be there, budgets of pages that people read, words that mean
//! "not done".

use super::source::SourceFile;

/// Files that must exist, with the lines they may have.
const BUDGETS: [(&str, usize); 4] = [
    ("README.md", 150),
    ("ARCHITECTURE.md", 300),
    ("CONTRIBUTING.md", 150),
    ("LICENSE", usize::MAX),
];

/// Split, so that this file does not contain them.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// Files whose text is not ours.
const FOREIGN: [&str; 4] = ["Cargo.lock", "LICENSE", "go.sum", "package-lock.json"];

pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, lines_max) in BUDGETS {
        match files.iter().find(|file| file.path == path) {
            None => violations.push(format!("{path}: missing")),
            Some(file) if file.text.lines().count() > lines_max => {
                violations.push(format!("{path}: more than {lines_max} lines"));
            }
            Some(_) => {}
        }
    }
    for file in files {
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            violations.push(format!("{}: no line end at the end of the file", file.path));
        }
        if !FOREIGN.iter().any(|name| file.path.ends_with(name)) {
            violations.extend(unfinished(file));
        }
    }
    violations
}

fn unfinished(file: &SourceFile) -> impl Iterator<Item = String> {
    file.text
        .lines()
        .enumerate()
        .flat_map(move |(index, line)| {
            UNFINISHED
                .iter()
                .filter(|word| line.contains(**word))
                .map(move |word| format!("{}:{}: {word}", file.path, index + 1))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_and_unterminated_text_is_reported() {
        let mut files: Vec<_> = BUDGETS
            .iter()
            .map(|(path, _)| SourceFile {
                path: (*path).to_owned(),
                text: "x\n".to_owned(),
            })
            .collect();
        assert_eq!(check(&files), [""; 0]);

        files[0].text = "x\n".repeat(151);
        files[1].text = format!("{}: later", UNFINISHED[0]);
        assert_eq!(
            check(&files),
            [
                "README.md: more than 150 lines".to_owned(),
                "ARCHITECTURE.md: no line end at the end of the file".to_owned(),
                format!("ARCHITECTURE.md:1: {}", UNFINISHED[0]),
            ]
        );
    }
}
