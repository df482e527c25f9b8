//! The largest files and functions: worth a look, never a violation.

use std::cmp::Reverse;

use super::source::SourceFile;

const SHOWN: usize = 10;

/// A file or function and its lines.
struct Size {
    lines: usize,
    name: String,
}

pub(super) fn print(files: &[SourceFile]) {
    let production = || {
        files
            .iter()
            .filter(|file| file.is_rust() && !file.is_test())
    };
    let sizes = production()
        .map(|file| Size {
            lines: file.production_lines().count(),
            name: file.path.clone(),
        })
        .collect();
    print_largest("files (lines without tests)", sizes);
    print_largest("functions", production().flat_map(functions).collect());
}

fn print_largest(what: &str, mut sizes: Vec<Size>) {
    sizes.sort_by_key(|size| Reverse(size.lines));
    println!("largest {what}:");
    for size in sizes.iter().take(SHOWN) {
        println!("  {:>5}  {}", size.lines, size.name);
    }
}

/// A function ends at the first closing brace that is indented as its first line: rustfmt sees to
/// that.
fn functions(file: &SourceFile) -> Vec<Size> {
    let lines: Vec<_> = file.production_lines().collect();
    let mut sizes = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let declaration = format!("{indent};");
        for (length, (_, line)) in lines[index..].iter().enumerate() {
            if *line == end {
                let name = format!("{}:{number} {name}", file.path);
                sizes.push(Size {
                    lines: length + 1,
                    name,
                });
                break;
            }
            // A method without a body, in a trait.
            if line.starts_with(&declaration) || (line.ends_with(';') && length == 0) {
                break;
            }
        }
    }
    sizes
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ');
    let qualifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "async",
        "const",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    let word = words.find(|word| !qualifiers.contains(word))?;
    if word != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_signature_to_closing_brace() {
        let text = "\
trait A {
    fn declared(&self);
    fn defined(&self) {
        if true {
        }
    }
}
pub(crate) async fn free<T>(
    x: T,
) {
}
fn one_line() {}
";
        let file = SourceFile {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        let found: Vec<_> = functions(&file)
            .into_iter()
            .map(|size| (size.lines, size.name))
            .collect();
        assert_eq!(
            found,
            [
                (4, "a.rs:3 defined".to_owned()),
                (4, "a.rs:8 free".to_owned())
            ]
        );
    }
}
