//! `cargo xtask instructions`: what each path of a record costs, in instructions, against a budget.
//!
//! Instructions are the one figure that does not depend on how busy a machine is: callgrind counts
//! them. The kernel's are not among them. The budget is of one toolchain and one kind of processor;
//! whoever changes the first, or makes a path cheaper, writes the new figures down here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::build_release;
use crate::process::{announce, output};
use crate::workspace::target_directory;

const PROGRAM: &str = "klamm-bench-instructions";
const TOOLCHAIN: &str = "rustc 1.95.";
/// What the checksums and copies of the budget use.
const PROCESSOR: [&str; 4] = ["avx2", "erms", "pclmulqdq", "sse4_2"];
/// Instructions of one operation, see `bench/instructions`.
const BUDGET: [(&str, u64); 6] = [
    ("produce-batch", 34_300),
    ("produce-single", 10_700),
    ("produce-spread", 46_400),
    ("fetch-batch", 22_700),
    ("fetch-backlog", 16_300),
    ("replicate", 45_500),
];
/// More than so many percent above the budget fails; as much below it calls for a lower one.
const TOLERANCE_PERCENT: u64 = 5;
const OPERATIONS: u64 = 1000;
/// The functions that are counted, with what they call.
const COUNTED: &str = "klamm_bench_instructions::measured::*";

/// Why the budget says nothing about what is built here, and for here.
pub(crate) fn objection() -> Option<&'static str> {
    let version = output(Command::new("rustc").arg("--version"));
    if !version.is_ok_and(|version| version.starts_with(TOOLCHAIN)) {
        return Some("the budget is of Rust 1.95");
    }
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = processor.lines();
    let flags = lines.find(|line| line.starts_with("flags")).unwrap_or("");
    let has = |flag: &&str| flags.split_whitespace().any(|found| found == *flag);
    (!PROCESSOR.iter().all(has)).then_some("the budget is of x86-64 with AVX2")
}

/// Builds what is released with the program that uses it, and counts.
pub(crate) fn check() -> Result<()> {
    announce("building klamm-bench-instructions (release, static)");
    let program = build_release(&[PROGRAM])?.join(PROGRAM);
    let directory = target_directory()?.join("instructions");
    let mut exceeded = Vec::new();
    println!("    path                 instructions       budget");
    for (path, budget) in BUDGET {
        let counted = count(&program, path, &directory)? / OPERATIONS;
        let percent = counted as f64 / budget as f64 * 100.0 - 100.0;
        println!("    {path:<20} {counted:>12} {budget:>12}  {percent:+.1} %");
        if counted * 100 > budget * (100 + TOLERANCE_PERCENT) {
            exceeded.push(path);
        } else if counted * 100 < budget * (100 - TOLERANCE_PERCENT) {
            println!("      cheaper than its budget: lower it in xtask/src/instructions.rs");
        }
    }
    if !exceeded.is_empty() {
        bail!(
            "{} cost more than {TOLERANCE_PERCENT} % above the budget",
            exceeded.join(", ")
        );
    }
    Ok(())
}

fn count(binary: &Path, path: &str, directory: &Path) -> Result<u64> {
    let (logs, report) = (directory.join(path), directory.join("callgrind.out"));
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    fs::create_dir_all(&logs)?;
    output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--collect-atstart=no"])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(format!("--callgrind-out-file={}", report.display()))
            .arg(binary)
            .args([path, "--operations", &OPERATIONS.to_string()])
            .arg("--directory")
            .arg(&logs),
    )?;
    let report = fs::read_to_string(&report)?;
    let mut lines = report.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("callgrind's report has no totals")?;
    let total = total.trim().parse()?;
    if total == 0 {
        bail!("callgrind has not seen {COUNTED}");
    }
    Ok(total)
}
