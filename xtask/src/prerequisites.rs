//! What Klamm's commands need on the machine, as one table: checked before work starts, installed
//! on request.
//!
//! Rust is not in it: whoever runs this has it. A row added to [`TABLE`] is all that a new need
//! takes.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::paths::find_program;
use crate::process::{announce, output, run, succeeds};

/// What a command is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compile the workspace
    Build,
    /// Run Kubernetes in containers
    Cluster,
    /// Talk to a broker from the command line
    Demo,
    /// Test with the Kafka clients of other languages
    Clients,
    /// Test with those, too, that take long to install
    AllClients,
    /// Inject faults into brokers
    Chaos,
    /// Count instructions
    Instructions,
}

/// One thing that must be there.
struct Prerequisite {
    purpose: Purpose,
    check: Check,
    /// The package of Debian and Ubuntu, or what a person has to do.
    remedy: Remedy,
}

enum Check {
    /// A program on `PATH`, or where administrators' programs are.
    Program(&'static str),
    File(&'static str),
    /// Docker replaces what only Podman, or an image built for it, needs.
    UnlessDocker(&'static Self),
    /// Go, of at least the version that the modules under `e2e/kind` name.
    Go,
    /// Python with the module of that name.
    PythonModule(&'static str),
}

enum Remedy {
    Apt(&'static str),
    Manual(&'static str),
}

use Check::{File, Go, Program, PythonModule, UnlessDocker};
use Purpose::{AllClients, Build, Chaos, Clients, Cluster, Demo, Instructions};
use Remedy::{Apt, Manual};

#[rustfmt::skip]
const TABLE: &[Prerequisite] = &[
    row(Build, Program("cc"), Apt("gcc")),
    row(Build, File("/usr/include/stdio.h"), Apt("libc6-dev")),
    row(Cluster, Go, Manual("Go 1.24 or later, from https://go.dev/dl")),
    row(Cluster, Program("ip"), Apt("iproute2")),
    row(Cluster, UnlessDocker(&Program("podman")), Apt("podman")),
    row(Cluster, UnlessDocker(&Program("crun")), Apt("crun")),
    row(Cluster, UnlessDocker(&Program("runc")), Apt("runc")),
    row(Cluster, UnlessDocker(&File("/usr/lib/podman/netavark")), Apt("netavark")),
    row(Cluster, UnlessDocker(&File("/usr/lib/podman/aardvark-dns")), Apt("aardvark-dns")),
    row(Cluster, UnlessDocker(&Program("iptables")), Apt("iptables")),
    row(Cluster, UnlessDocker(&Program("mmdebstrap")), Apt("mmdebstrap")),
    row(Cluster, UnlessDocker(&File("/usr/share/keyrings/debian-archive-keyring.gpg")), Apt("debian-archive-keyring")),
    row(Cluster, UnlessDocker(&File("/etc/ssl/certs/ca-certificates.crt")), Apt("ca-certificates")),
    row(Cluster, UnlessDocker(&Program("jq")), Apt("jq")),
    row(Demo, Program("kcat"), Apt("kcat")),
    row(Clients, Program("kcat"), Apt("kcat")),
    row(Clients, Go, Manual("Go 1.24 or later, from https://go.dev/dl")),
    row(Clients, Program("jlink"), Apt("default-jdk-headless")),
    row(Clients, Program("mvn"), Apt("maven")),
    row(Clients, Program("python3"), Apt("python3")),
    row(Clients, PythonModule("ensurepip"), Apt("python3-venv")),
    row(AllClients, Program("node"), Apt("nodejs")),
    row(AllClients, Program("npm"), Apt("npm")),
    row(Chaos, Program("ip"), Apt("iproute2")),
    row(Chaos, Program("iptables"), Apt("iptables")),
    row(Chaos, Program("faketime"), Apt("faketime")),
    row(Chaos, Program("python3"), Apt("python3")),
    row(Chaos, PythonModule("ensurepip"), Apt("python3-venv")),
    row(Chaos, Program("javac"), Apt("default-jdk-headless")),
    row(Chaos, Program("mvn"), Apt("maven")),
    row(Instructions, Program("valgrind"), Apt("valgrind")),
    row(Chaos, File("/dev/fuse"), Manual("a kernel with FUSE")),
];

const fn row(purpose: Purpose, check: Check, remedy: Remedy) -> Prerequisite {
    Prerequisite {
        purpose,
        check,
        remedy,
    }
}

/// What to do about missing packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Install without a question
    Given,
    /// Ask on the terminal; without one, fail and list them
    Ask,
}

/// Checks everything that the purposes need and installs what is missing, given consent.
pub(crate) fn ensure(purposes: &[Purpose], consent: Consent) -> Result<()> {
    announce("checking prerequisites");
    let (packages, manual) = missing(purposes);
    for remedy in &manual {
        println!("    missing: {remedy}");
    }
    if !packages.is_empty() {
        println!("    missing packages: {}", packages.join(" "));
    }
    if !manual.is_empty() {
        bail!("install {} and run this again", manual.join(", "));
    }
    if packages.is_empty() {
        return Ok(());
    }
    if consent == Consent::Ask && !confirmed()? {
        bail!(
            "run this again with --yes, or install them: apt-get install {}",
            packages.join(" ")
        );
    }
    install(&packages)?;
    let (still_missing, _) = missing(purposes);
    if !still_missing.is_empty() {
        bail!(
            "installed, but still not found: {}",
            still_missing.join(" ")
        );
    }
    Ok(())
}

fn missing(purposes: &[Purpose]) -> (Vec<&'static str>, Vec<&'static str>) {
    let docker = succeeds(Command::new("docker").arg("info"));
    let (mut packages, mut manual) = (Vec::new(), Vec::new());
    for row in TABLE.iter().filter(|row| purposes.contains(&row.purpose)) {
        if !is_met(&row.check, docker) {
            match row.remedy {
                Apt(package) => packages.push(package),
                Manual(what) => manual.push(what),
            }
        }
    }
    packages.sort_unstable();
    packages.dedup();
    manual.dedup();
    (packages, manual)
}

fn is_met(check: &Check, docker: bool) -> bool {
    match check {
        Program(name) => has_program(name),
        File(path) => Path::new(path).exists(),
        UnlessDocker(check) => docker || is_met(check, docker),
        Go => {
            let there = has_program("go") || Path::new("/usr/local/go/bin/go").is_file();
            there
                && output(crate::kind::tools::go().args(["env", "GOVERSION"])).is_ok_and(is_recent)
        }
        PythonModule(module) => {
            succeeds(Command::new("python3").args(["-c", &format!("import {module}")]))
        }
    }
}

/// From 1.21 on, Go fetches the toolchain that a module asks for.
fn is_recent(version: String) -> bool {
    let minor = version
        .strip_prefix("go1.")
        .and_then(|rest| rest.split('.').next());
    minor
        .and_then(|minor| minor.parse::<u32>().ok())
        .is_some_and(|minor| minor >= 21)
}

fn has_program(name: &str) -> bool {
    let administrators = ["/usr/sbin", "/sbin"];
    find_program(name).is_some()
        || administrators
            .iter()
            .any(|directory| Path::new(directory).join(name).is_file())
}

fn confirmed() -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Install them now with apt-get? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn install(packages: &[&str]) -> Result<()> {
    if !has_program("apt-get") {
        bail!(
            "this machine has no apt-get: install the equivalents of {}",
            packages.join(" ")
        );
    }
    announce(format!("installing {}", packages.join(" ")));
    run(apt_get()?.arg("update"))?;
    run(apt_get()?
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages))
}

fn apt_get() -> Result<Command> {
    let root = output(Command::new("id").arg("--user"))? == "0";
    let mut command = Command::new(if root { "env" } else { "sudo" });
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"]);
    Ok(command)
}
