//! Runs the workloads against Klamm, and against Apache Kafka in turn: A B A B, so that what else
//! happens on the machine hits both. `cargo xtask bench` builds what this needs.

mod document;
mod figure;
mod measure;
mod samples;
mod system;
mod workload;

use anyhow::{Result, ensure};
use clap::Parser;

use document::{Limits, write};
use measure::Generator;
use samples::Samples;
use system::{System, SystemKind};
use workload::{WORKLOADS, Workload};

const PAIRS: usize = 5;
const PAIRS_QUICK: usize = 2;

#[derive(Parser)]
#[command(about = "Measures Klamm, side by side with Apache Kafka")]
struct Arguments {
    /// Measure another system the same way
    #[arg(long, value_parser = ["kafka"])]
    against: Option<String>,
    /// Fewer runs of each workload
    #[arg(long)]
    quick: bool,
    /// Only workloads with this in their name; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write the figures to docs/performance.md and docs/performance.svg
    #[arg(long)]
    write: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let generator = Generator::from_environment()?;
    let workloads: Vec<_> = WORKLOADS
        .iter()
        .filter(|workload| {
            let only = &arguments.only;
            only.is_empty() || only.iter().any(|name| workload.name.contains(name))
        })
        .collect();
    ensure!(!workloads.is_empty(), "no workload has such a name");
    let kinds: &[_] = match arguments.against {
        Some(_) => &[SystemKind::Klamm, SystemKind::Kafka],
        None => &[SystemKind::Klamm],
    };
    let pairs = if arguments.quick { PAIRS_QUICK } else { PAIRS };
    let limits = Limits::measure(&generator)?;
    println!("{limits}");
    let mut samples = Samples::default();
    for pair in 1..=pairs {
        for nodes in [1, 3] {
            let workloads: Vec<_> = workloads.iter().filter(|w| w.nodes == nodes).collect();
            for kind in kinds.iter().filter(|_| !workloads.is_empty()) {
                println!("run {pair} of {pairs}: {kind}, nodes: {nodes}");
                let system = System::start(*kind, nodes)?;
                run(&system, *kind, &workloads, &generator, &mut samples)?;
            }
        }
    }
    println!("\n{}", samples.table());
    if arguments.write {
        write(&samples, &limits, pairs)?;
    }
    Ok(())
}

/// The workloads, one after the other on the same brokers.
fn run(
    system: &System,
    kind: SystemKind,
    workloads: &[&&'static Workload],
    generator: &Generator,
    samples: &mut Samples,
) -> Result<()> {
    for workload in workloads {
        let measured = generator.measure(system, workload)?;
        for (figure, _) in workload.figures {
            let value = figure.value(&measured)?;
            println!("    {}: {}", workload.name, figure.show(value));
            samples.add(workload, *figure, kind, value);
        }
    }
    Ok(())
}
