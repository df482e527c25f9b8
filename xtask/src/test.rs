//! `cargo xtask test`: every check and test in order, with the time that each took.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::chaos;
use crate::chart;
use crate::clients;
use crate::image::{self, Binaries, BuiltImage};
use crate::instructions;
use crate::kind::cluster::{Cluster, NODES_DEFAULT};
use crate::kind::node_image::Source;
use crate::operator::{self, Scope};
use crate::operator_sim;
use crate::prerequisites::{self, Consent, Purpose};
use crate::process::{announce, run, succeeds};
use crate::sim;
use crate::tidy;
use crate::workspace::{self, cargo};

/// Of its own, so that the tests never touch a cluster that somebody uses.
const CLUSTER_NAME: &str = "klamm-e2e";
const E2E_PACKAGE: &str = "klamm-e2e";
const CHAOS_MINUTES: u64 = 4;
/// Test targets of the e2e package with this prefix need the cluster; the others start brokers
/// themselves.
const KUBERNETES_PREFIX: &str = "kubernetes";

/// One line of the summary. The order is the order of execution: what fails fast comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Step {
    /// rustfmt
    Format,
    /// Arrows between crates, purity, sizes, words
    Tidy,
    /// clippy, warnings denied
    Lint,
    /// Licences and duplicate crates (needs cargo-deny, skipped without it)
    Deny,
    /// Unit and integration tests of every crate
    Unit,
    /// Seeds of both simulations, and every broken rule of replication noticed
    Sim,
    /// Release binaries and the container image
    Image,
    /// What the paths of a record cost in instructions, against a budget
    Instructions,
    /// Kafka clients against brokers on this machine
    Clients,
    /// Faults on five broker processes under load (needs root; only when it is named)
    Chaos,
    /// The chart rendered, and a kind cluster with it installed
    Cluster,
    /// End-to-end tests on the cluster
    Kubernetes,
}

const STEPS: [Step; 12] = [
    Step::Format,
    Step::Tidy,
    Step::Lint,
    Step::Deny,
    Step::Unit,
    Step::Sim,
    Step::Image,
    Step::Instructions,
    Step::Clients,
    Step::Chaos,
    Step::Cluster,
    Step::Kubernetes,
];

impl Step {
    /// The steps whose results this one uses.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Clients | Self::Cluster => &[Self::Image],
            Self::Kubernetes => &[Self::Image, Self::Cluster],
            _ => &[],
        }
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Whether the machine can run Kubernetes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterUse {
    Wanted,
    Skipped,
}

pub(crate) struct Options {
    pub(crate) consent: Consent,
    pub(crate) cluster: ClusterUse,
    /// Empty: all
    pub(crate) only: Vec<Step>,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

struct StepResult {
    step: Step,
    outcome: Outcome,
    duration: Duration,
}

/// What earlier steps leave for later ones.
#[derive(Default)]
struct Products {
    binaries: Option<Binaries>,
    image: Option<BuiltImage>,
    cluster: Option<Cluster>,
}

/// Runs the steps; fails, after the summary, if one of them failed.
pub(crate) fn run_tests(options: &Options) -> Result<ExitCode> {
    let steps = selected(&options.only);
    prerequisites::ensure(&purposes(&steps, options.cluster), options.consent)?;

    let mut products = Products::default();
    let mut results: Vec<StepResult> = Vec::new();
    for step in steps {
        announce(format!("step: {}", step.name()));
        let start = Instant::now();
        let outcome = match reason_to_skip(step, options.cluster, &results) {
            Some(reason) => Outcome::Skipped(reason),
            None => match execute(step, &mut products) {
                Ok(()) => Outcome::Passed,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        };
        let result = StepResult {
            step,
            outcome,
            duration: start.elapsed(),
        };
        println!("{}", line(&result));
        results.push(result);
    }
    clean_up(&products, &results)?;
    Ok(summarize(&results))
}

fn selected(only: &[Step]) -> Vec<Step> {
    let wanted = |step: &Step| match only {
        // Its faults come as they come: a tool to look for defects with, no verdict on a change.
        [] => *step != Step::Chaos,
        only => only.iter().any(|o| o == step || o.needs().contains(step)),
    };
    STEPS.into_iter().filter(wanted).collect()
}

fn purposes(steps: &[Step], cluster: ClusterUse) -> Vec<Purpose> {
    let mut purposes = vec![Purpose::Build];
    if steps.contains(&Step::Clients) {
        purposes.push(Purpose::Clients);
    }
    if steps.contains(&Step::Instructions) && instructions::objection().is_none() {
        purposes.push(Purpose::Instructions);
    }
    if steps.contains(&Step::Chaos) {
        purposes.push(Purpose::Chaos);
    }
    if steps.contains(&Step::Cluster) && cluster == ClusterUse::Wanted {
        purposes.push(Purpose::Cluster);
    }
    purposes
}

fn reason_to_skip(step: Step, cluster: ClusterUse, results: &[StepResult]) -> Option<&'static str> {
    if cluster == ClusterUse::Skipped && matches!(step, Step::Cluster | Step::Kubernetes) {
        return Some("--skip-cluster");
    }
    if step == Step::Instructions
        && let Some(objection) = instructions::objection()
    {
        return Some(objection);
    }
    let passed = |need: &Step| {
        results
            .iter()
            .any(|r| r.step == *need && matches!(r.outcome, Outcome::Passed))
    };
    if !step.needs().iter().all(passed) {
        return Some("a step before it that it needs did not pass");
    }
    if step == Step::Deny && !succeeds(cargo().args(["deny", "--version"])) {
        return Some("cargo-deny is not installed: cargo install --locked cargo-deny");
    }
    None
}

fn execute(step: Step, products: &mut Products) -> Result<()> {
    match step {
        Step::Format => run(cargo().args(["fmt", "--all", "--check"])),
        Step::Tidy => tidy::run_tidy(),
        Step::Lint => run(cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(["--", "--deny=warnings"])),
        Step::Deny => run(cargo().args(["deny", "check", "licenses", "bans", "sources"])),
        Step::Unit => unit_tests(),
        Step::Sim => {
            sim::run_for_ci()?;
            operator_sim::run_for_ci()
        }
        Step::Image => {
            let binaries = Binaries::build()?;
            products.image = Some(image::build(image::DEFAULT_TAG, &binaries)?);
            products.binaries = Some(binaries);
            Ok(())
        }
        Step::Instructions => instructions::check(),
        Step::Clients => end_to_end_tests(products, |target| {
            !target.starts_with(KUBERNETES_PREFIX) && !clients::is_long(target)
        }),
        Step::Chaos => chaos::run_chaos(&chaos::Options {
            minutes: CHAOS_MINUTES,
            ..chaos::Options::default()
        }),
        Step::Cluster => {
            chart::check()?;
            let cluster = products.cluster.insert(Cluster::new(CLUSTER_NAME)?);
            let image = products.image.as_ref().context("the image was not built")?;
            cluster.up(NODES_DEFAULT, Source::Auto)?;
            cluster.load(&image.archive)?;
            operator::install(cluster, image, Scope::Cluster)
        }
        Step::Kubernetes => {
            end_to_end_tests(products, |target| target.starts_with(KUBERNETES_PREFIX))
        }
    }
}

/// Selects targets rather than packages: dependencies are then built with the same features for
/// this step and for the end-to-end tests, which is to say once.
fn unit_tests() -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked", "--lib", "--bins"]);
    for target in test_targets(|package| package != E2E_PACKAGE)? {
        command.args(["--test", &target]);
    }
    run(&mut command)
}

fn end_to_end_tests(products: &Products, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let targets = test_targets(|package| package == E2E_PACKAGE)?;
    let targets: Vec<_> = targets.iter().filter(|target| wanted(target)).collect();
    if targets.is_empty() {
        bail!("package {E2E_PACKAGE} has no such tests");
    }
    let binaries = products
        .binaries
        .as_ref()
        .context("the binaries were not built")?;
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("KLAMM_BROKER_BIN", &binaries.broker)
        .env("KLAMM_OPERATOR_BIN", &binaries.operator)
        .env("KLAMM_CLI_BIN", &binaries.cli);
    for target in targets {
        command.args(["--test", target]);
    }
    if let (Some(cluster), Some(image)) = (&products.cluster, &products.image) {
        cluster.configure(&mut command)?;
        command.env(
            "KLAMM_IMAGE",
            format!("{}:{}", image.repository, image.content_tag),
        );
    }
    run(&mut command)
}

/// Measures fail-over times of release binaries, and of another system beside them.
pub(crate) fn measure_failover(rounds: usize, against: Option<&str>) -> Result<()> {
    let binaries = Binaries::build()?;
    let mut command = cargo();
    command
        .args(["run", "--locked", "--package", E2E_PACKAGE])
        .args(["--bin", "failover", "--", "--rounds", &rounds.to_string()])
        .env("KLAMM_BROKER_BIN", &binaries.broker);
    if let Some(system) = against {
        command.args(["--against", system]);
    }
    run(&mut command)
}

/// Measures what so many partitions cost release binaries.
pub(crate) fn measure_scale(topics: usize, partitions: usize) -> Result<()> {
    let binaries = Binaries::build()?;
    let (topics, partitions) = (topics.to_string(), partitions.to_string());
    let mut command = cargo();
    command
        .args(["run", "--locked", "--package", E2E_PACKAGE])
        .args(["--bin", "scale", "--", "--topics", &topics])
        .args(["--partitions", &partitions])
        .env("KLAMM_BROKER_BIN", &binaries.broker);
    run(&mut command)
}

/// The integration tests of the packages that `of_package` picks, by name.
fn test_targets(of_package: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let mut names = Vec::new();
    for package in packages
        .iter()
        .filter(|p| p["name"].as_str().is_some_and(&of_package))
    {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"][0] == "test" {
                names.extend(target["name"].as_str().map(str::to_owned));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// A cluster on which something failed stays, to be looked at.
fn clean_up(products: &Products, results: &[StepResult]) -> Result<()> {
    let Some(cluster) = &products.cluster else {
        return Ok(());
    };
    let failed = results.iter().any(|r| {
        matches!(r.step, Step::Cluster | Step::Kubernetes)
            && matches!(r.outcome, Outcome::Failed(_))
    });
    if !failed {
        return cluster.down();
    }
    println!(
        "\ncluster {CLUSTER_NAME} is left as it is:\n  export KUBECONFIG={}\n  cargo xtask cluster down \
         --name {CLUSTER_NAME}",
        cluster.kubeconfig()?.display()
    );
    Ok(())
}

fn line(result: &StepResult) -> String {
    let (word, detail) = match &result.outcome {
        Outcome::Passed => ("passed", ""),
        Outcome::Failed(error) => ("FAILED", error.as_str()),
        Outcome::Skipped(reason) => ("skipped", *reason),
    };
    let seconds = result.duration.as_secs_f64();
    format!(
        "{:<11} {word:<8} {seconds:>7.1} s  {detail}",
        result.step.name()
    )
    .trim_end()
    .to_owned()
}

fn summarize(results: &[StepResult]) -> ExitCode {
    println!("\n==> summary");
    for result in results {
        println!("{}", line(result));
    }
    let count =
        |wanted: fn(&Outcome) -> bool| results.iter().filter(|r| wanted(&r.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Passed));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::{STEPS, Step, selected};

    #[test]
    fn a_selected_step_brings_what_it_needs_in_order() {
        assert_eq!(
            selected(&[Step::Kubernetes, Step::Format]),
            [Step::Format, Step::Image, Step::Cluster, Step::Kubernetes]
        );
        let by_default = selected(&[]);
        assert_eq!(by_default.len(), STEPS.len() - 1);
        assert!(!by_default.contains(&Step::Chaos));
    }

    #[test]
    fn every_step_comes_after_what_it_needs() {
        for step in STEPS {
            assert!(step.needs().iter().all(|need| *need < step), "{step:?}");
        }
        assert!(STEPS.is_sorted());
    }
}
