//! `cargo xtask tidy`: the rules about the source that neither rustc nor clippy knows.
//!
//! Each rule is a function from the workspace to a list of violations, one line each. Sizes are
//! printed for the eye and are never violations.

mod arrows;
mod monitoring;
mod promql;
mod purity;
mod sizes;
mod source;
mod text;

use anyhow::{Result, bail};

use source::SourceFile;

/// Checks every rule and prints the largest files and functions.
pub(crate) fn run_tidy() -> Result<()> {
    let files = source::read_all()?;
    sizes::print(&files);
    let violations = violations(&files)?;
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!(
            "{} violations of the rules in CONTRIBUTING.md",
            violations.len()
        );
    }
    Ok(())
}

fn violations(files: &[SourceFile]) -> Result<Vec<String>> {
    let mut violations = arrows::check(&crate::workspace::metadata()?)?;
    violations.extend(purity::check(files));
    violations.extend(text::check(files));
    violations.extend(monitoring::check(files));
    Ok(violations)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        let files = super::source::read_all().unwrap();
        let violations = super::violations(&files).unwrap();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}
