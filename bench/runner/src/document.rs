//! `docs/performance.md`: the figures between two marks, and a chart of the ratios. What is written
//! by hand around the marks stays.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::figure::{Measured, number};
use crate::measure::Generator;
use crate::samples::{Row, Samples};
use crate::workload::WORKLOADS;

const BEGIN: &str = "<!-- figures: begin, written by cargo xtask bench -->";
const END: &str = "<!-- figures: end -->";

/// What the machine can do.
pub(crate) struct Limits(Measured);

impl Limits {
    pub(crate) fn measure(generator: &Generator) -> Result<Self> {
        Ok(Self(generator.limits()?))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |name: &str| self.0.get(name).copied().unwrap_or(f64::NAN);
        let mb = |name: &str| number(get(name) / 1e6);
        write!(
            f,
            "limits of the machine: sendfile over loopback {} MB/s, memcpy {} MB/s, CRC-32C {} MB/s, \
             fdatasync {}/s",
            mb("sendfile_bytes_per_second"),
            mb("memcpy_bytes_per_second"),
            mb("crc32c_bytes_per_second"),
            number(get("fdatasync_per_second")),
        )
    }
}

pub(crate) fn write(samples: &Samples, limits: &Limits, pairs: usize) -> Result<()> {
    let docs = docs();
    let path = docs.join("performance.md");
    let old = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let (before, rest) = old.split_once(BEGIN).context("no begin of the figures")?;
    let (_, after) = rest.split_once(END).context("no end of the figures")?;
    let figures = figures(samples, limits, pairs)?;
    fs::write(&path, format!("{before}{BEGIN}\n{figures}\n{END}{after}"))?;
    fs::write(docs.join("performance.svg"), chart(&samples.rows)?)?;
    println!("wrote {}", path.display());
    Ok(())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn figures(samples: &Samples, limits: &Limits, pairs: usize) -> Result<String> {
    let mut text = String::new();
    let processors = std::thread::available_parallelism()?;
    writeln!(text, "\n{}.", capitalized(&limits.to_string()))?;
    writeln!(
        text,
        "Processors: {processors}. Medians of {pairs} pairs of runs; a ratio is the median of the \
         pairs' ratios.\n"
    )?;
    writeln!(text, "![Ratios to Apache Kafka](performance.svg)\n")?;
    writeln!(text, "{}\n", samples.table())?;
    writeln!(text, "| workload | load | brokers |\n| --- | --- | ---: |")?;
    for workload in WORKLOADS {
        let (name, what, nodes) = (workload.name, workload.what, workload.nodes);
        writeln!(text, "| {name} | {what} | {nodes} |")?;
    }
    Ok(text)
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

const LINE: f64 = 22.0;
const LABEL_WIDTH: f64 = 330.0;
const WIDTH: f64 = 860.0;
/// Factors at the left and right end of the chart.
const FACTOR_MAX: f64 = 100.0;

/// How many times better than Kafka each figure is, on a logarithmic scale, and the target.
fn chart(rows: &[Row]) -> Result<String> {
    let height = LINE * (rows.len() as f64 + 1.5);
    let x = |factor: f64| {
        let at = factor.clamp(1.0 / FACTOR_MAX, FACTOR_MAX).log(FACTOR_MAX);
        LABEL_WIDTH + (WIDTH - LABEL_WIDTH) * (at + 1.0) / 2.0
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let middle = x(1.0);
    for (index, row) in rows.iter().enumerate() {
        let Some(ratio) = row.ratio() else { continue };
        let better = |ratio: f64| match row.figure.more_is_better() {
            true => ratio,
            false => 1.0 / ratio,
        };
        let y = LINE * (index as f64 + 0.5);
        let end = x(better(ratio));
        let (left, width) = (middle.min(end), (end - middle).abs());
        let colour = if end >= middle { "#2a7f62" } else { "#b3402a" };
        let baseline = y + 12.0;
        writeln!(
            svg,
            "<text x=\"4\" y=\"{baseline}\">{}, {}</text>\
             <rect x=\"{left:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{baseline}\" fill=\"#333\">{}×</text>",
            row.workload.name,
            row.figure.name(),
            left.max(middle) + 4.0 + if end >= middle { width } else { 0.0 },
            number(better(ratio)),
        )?;
        if let Some(target) = row.target() {
            let at = x(better(target));
            writeln!(
                svg,
                "<path d=\"M{at:.1} {y}v14\" stroke=\"black\" stroke-width=\"2\"/>"
            )?;
        }
    }
    writeln!(
        svg,
        "<path d=\"M{middle:.1} 0V{height}\" stroke=\"#888\"/>\
         <text x=\"{LABEL_WIDTH}\" y=\"{:.1}\">times better than Apache Kafka; black: target</text>\n</svg>",
        height - 6.0
    )?;
    Ok(svg)
}
