//! `cargo xtask`: everything about Klamm that is not compiling it. `cargo xtask help` lists the
//! commands.

mod bench;
mod chaos;
mod chart;
mod clients;
mod demo;
mod image;
mod instructions;
mod kind;
mod oci;
mod operator;
mod operator_sim;
mod paths;
mod prerequisites;
mod process;
mod sim;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use image::Binaries;
use kind::cluster::{self, Cluster};
use kind::node_image::Source;
use prerequisites::{Consent, Purpose};
use test::{ClusterUse, Options, Step};

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Builds, runs and tests Klamm"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a Kafka cluster on Kubernetes on this machine, and messages through it
    ///
    /// Makes the kind cluster `klamm`, builds the image, installs the chart, applies the examples,
    /// waits until they are ready, produces and consumes. Everything stays up until `cargo xtask
    /// cluster down`.
    Demo(InstallConsent),
    /// Run every check and test, those on Kubernetes included
    ///
    /// Uses a kind cluster of its own, `klamm-e2e`, which is deleted afterwards unless a test on it
    /// failed.
    Test {
        #[command(flatten)]
        consent: InstallConsent,
        /// Leave out what needs Kubernetes
        #[arg(long)]
        skip_cluster: bool,
        /// Run this step and those it needs; can be given several times
        #[arg(long, value_enum, value_name = "STEP")]
        only: Vec<Step>,
    },
    /// Measure how long partitions stand still when a broker dies or is paused
    Failover {
        /// Faults of each kind
        #[arg(long, default_value_t = 20, value_name = "NUMBER")]
        rounds: usize,
        /// Measure another system the same way, for comparison
        #[arg(long, value_parser = ["kafka"], value_name = "SYSTEM")]
        against: Option<String>,
    },
    /// Run the cases of every Kafka client, franz-go's own suite among them
    Clients {
        #[command(flatten)]
        consent: InstallConsent,
        #[command(flatten)]
        arguments: clients::Arguments,
    },
    /// Measure throughput, processor time, memory and latency
    Bench(bench::Arguments),
    /// Count what each path of a record costs in instructions, against its budget
    Instructions(InstallConsent),
    /// Measure what many partitions cost three brokers: creation, idling, fail-over, start
    Scale {
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        topics: usize,
        /// Partitions of each topic, with three replicas
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        partitions: usize,
    },
    /// Inject faults into five brokers under load, and check what their clients saw; needs root
    Chaos {
        #[command(flatten)]
        consent: InstallConsent,
        #[command(flatten)]
        options: chaos::Options,
    },
    /// Kubernetes on this machine, in containers (kind)
    #[command(subcommand)]
    Cluster(ClusterTask),
    /// Build the container image of broker and operator as an archive, without a container engine
    Image {
        /// The image's name; without a registry it becomes localhost/NAME
        #[arg(long, default_value = image::DEFAULT_TAG)]
        tag: String,
        /// Load it into the kind cluster of this name
        #[arg(long, value_name = "CLUSTER")]
        load: Option<String>,
    },
    /// Simulate the replication protocol under faults
    ///
    /// Each seed is a run of a few simulated seconds. Builds `broker-sim` for release.
    Sim(sim::Arguments),
    /// Simulate the operator against a cluster under faults
    ///
    /// Each seed is a run of some simulated minutes.
    OperatorSim(operator_sim::Arguments),
    /// Write the custom resource definitions into the Helm chart
    Crds,
    /// Lint the Helm chart and render it with each optional part (needs Go, for Helm)
    Chart,
    /// Check the rules about the source that the compiler does not know, and print what is largest
    Tidy,
    /// Check, and install, what the other commands need on this machine
    Prerequisites(InstallConsent),
}

#[derive(Subcommand)]
enum ClusterTask {
    /// Make a cluster whose nodes are schedulable, each in a zone of its own; does nothing if it is
    /// there
    ///
    /// Uses Docker if its daemon answers, else Podman. The node image is kindest/node if it can be
    /// pulled; otherwise it is built from Debian packages and Go modules, once, which takes root
    /// and some minutes.
    Up {
        #[command(flatten)]
        name: ClusterName,
        /// How many nodes, the control plane included
        #[arg(long, default_value_t = cluster::NODES_DEFAULT,
              value_parser = clap::value_parser!(u8).range(1..=i64::from(cluster::NODES_MAX)))]
        nodes: u8,
        /// Where the node image comes from
        #[arg(long, value_enum, default_value_t = Source::Auto)]
        node_image: Source,
        #[command(flatten)]
        consent: InstallConsent,
    },
    /// Delete a cluster and put back the kernel settings that it changed on the host
    Down(ClusterName),
    /// Show a cluster's nodes and the path of its kubeconfig
    Status(ClusterName),
}

#[derive(clap::Args)]
struct ClusterName {
    /// The cluster's name
    #[arg(long, default_value = cluster::DEFAULT_NAME)]
    name: String,
}

#[derive(clap::Args)]
struct InstallConsent {
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
}

impl InstallConsent {
    fn consent(&self) -> Consent {
        if self.yes {
            Consent::Given
        } else {
            Consent::Ask
        }
    }
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Demo(consent) => demo::run_demo(consent.consent())?,
        Task::Test {
            consent,
            skip_cluster,
            only,
        } => {
            let cluster = if skip_cluster {
                ClusterUse::Skipped
            } else {
                ClusterUse::Wanted
            };
            return test::run_tests(&Options {
                consent: consent.consent(),
                cluster,
                only,
            });
        }
        Task::Failover { rounds, against } => test::measure_failover(rounds, against.as_deref())?,
        Task::Clients { consent, arguments } => {
            let purposes = [Purpose::Build, Purpose::Clients, Purpose::AllClients];
            prerequisites::ensure(&purposes, consent.consent())?;
            clients::run_clients(&arguments)?;
        }
        Task::Bench(arguments) => bench::run_bench(&arguments)?,
        Task::Instructions(consent) => {
            let purposes = [Purpose::Build, Purpose::Instructions];
            prerequisites::ensure(&purposes, consent.consent())?;
            instructions::check()?;
        }
        Task::Scale { topics, partitions } => test::measure_scale(topics, partitions)?,
        Task::Chaos { consent, options } => {
            prerequisites::ensure(&[Purpose::Build, Purpose::Chaos], consent.consent())?;
            chaos::run_chaos(&options)?;
        }
        Task::Cluster(task) => run_cluster(task)?,
        Task::Image { tag, load } => {
            let image = image::build(&tag, &Binaries::build()?)?;
            if let Some(name) = load {
                Cluster::new(&name)?.load(&image.archive)?;
            }
            println!("    {}", image.name);
        }
        Task::Sim(arguments) => sim::run_sim(&arguments)?,
        Task::OperatorSim(arguments) => operator_sim::run_operator_sim(&arguments)?,
        Task::Crds => {
            let mut test = workspace::cargo();
            test.args(["test", "--quiet", "--package=klamm-crds", "--test=chart"]);
            process::run(test.env("UPDATE", "1"))?;
        }
        Task::Chart => chart::check()?,
        Task::Tidy => tidy::run_tidy()?,
        Task::Prerequisites(consent) => {
            let all = [
                Purpose::Build,
                Purpose::Cluster,
                Purpose::Demo,
                Purpose::Clients,
                Purpose::AllClients,
                Purpose::Chaos,
                Purpose::Instructions,
            ];
            prerequisites::ensure(&all, consent.consent())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_cluster(task: ClusterTask) -> Result<()> {
    match task {
        ClusterTask::Up {
            name,
            nodes,
            node_image,
            consent,
        } => {
            prerequisites::ensure(&[Purpose::Cluster], consent.consent())?;
            Cluster::new(&name.name)?.up(nodes, node_image)
        }
        ClusterTask::Down(name) => Cluster::new(&name.name)?.down(),
        ClusterTask::Status(name) => Cluster::new(&name.name)?.status(),
    }
}
