//! How results are printed.

use std::io::{self, Write as _};

use anyhow::Result;
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Output {
    /// Prints rows under a heading, or all of `value`.
    pub(crate) fn print<const N: usize>(
        self,
        value: &impl Serialize,
        heading: [&str; N],
        rows: Vec<[String; N]>,
    ) -> Result<()> {
        match self {
            Self::Table => print_text(&table(heading, &rows)),
            Self::Json => print_line(&serde_json::to_string_pretty(value)?),
        }
    }

    /// Says what was done, to people.
    pub(crate) fn done(self, what: &str) -> Result<()> {
        match self {
            Self::Table => print_line(what),
            Self::Json => Ok(()),
        }
    }
}

pub(crate) fn print_line(line: &str) -> Result<()> {
    print_text(&format!("{line}\n"))
}

/// Unlike `print!`, without a panic when nobody reads any more.
pub(crate) fn print_text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// As when `head` has seen enough.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Columns as wide as what is in them.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths);
        let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let rows = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    line(heading) + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long name".to_owned(), "20".to_owned()],
        ];
        assert_eq!(
            table(["NAME", "PARTITIONS"], &rows),
            "NAME       PARTITIONS\na          1\nlong name  20\n"
        );
        assert_eq!(table(["NAME"], &[]), "NAME\n");
    }
}
