//! Network namespaces: one for each broker and one for the clients, on a bridge in the namespace of
//! this process, and what is between them: partitions, loss, delay.
//!
//! This process runs in a network and a mount namespace of its own, so all of it ends with it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const BRIDGE: &str = "br0";
/// The namespace directory of `ip netns`, which becomes ours alone.
const NAMESPACES: &str = "/run/netns";
/// The chain with the rules of faults.
const CHAIN: &str = "CHAOS";
/// The number of the queue through which packets are delayed, of each namespace its own.
pub(crate) const QUEUE: u16 = 1;

/// A place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Broker(u16),
    Clients,
}

impl Host {
    /// The name of its namespace.
    pub(crate) fn namespace(self) -> String {
        match self {
            Self::Broker(id) => format!("b{id}"),
            Self::Clients => "clients".to_owned(),
        }
    }

    pub(crate) fn address(self) -> String {
        match self {
            Self::Broker(id) => format!("10.77.0.{}", 10 + id),
            Self::Clients => "10.77.0.100".to_owned(),
        }
    }
}

/// The network of a cluster.
pub(crate) struct Network {
    hosts: Vec<Host>,
    /// The programs that delay packets
    delays: Vec<Child>,
}

impl Network {
    /// Makes the bridge and a namespace for each host.
    ///
    /// # Errors
    /// When this process has not been given namespaces of its own, or may not change them.
    pub(crate) fn new(brokers: u16) -> Result<Self> {
        std::fs::create_dir_all(NAMESPACES)?;
        run("mount", &["-t", "tmpfs", "tmpfs", NAMESPACES])?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", "10.77.0.1/24", "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        let hosts: Vec<_> = (0..brokers)
            .map(Host::Broker)
            .chain([Host::Clients])
            .collect();
        for host in &hosts {
            add(*host)?;
        }
        let delays = Vec::new();
        Ok(Self { hosts, delays })
    }

    /// Drops what `from` sends to `to`; the other way stays open.
    ///
    /// # Errors
    /// When the rule can't be added.
    pub(crate) fn block(&self, from: Host, to: Host) -> Result<()> {
        in_chain(to, &["-s", &from.address(), "-j", "DROP"])
    }

    /// Drops what two hosts send to each other.
    ///
    /// # Errors
    /// When a rule can't be added.
    pub(crate) fn cut(&self, one: Host, other: Host) -> Result<()> {
        self.block(one, other)?;
        self.block(other, one)
    }

    /// Loses packets that a host receives, `portion` of 1.
    ///
    /// # Errors
    /// When the rule can't be added.
    pub(crate) fn lose(&self, to: Host, portion: f64) -> Result<()> {
        let portion = portion.to_string();
        let rule = ["-m", "statistic", "--mode", "random", "--probability"];
        in_chain(to, &[&rule[..], &[&portion, "-j", "DROP"]].concat())
    }

    /// Delays the packets that a host receives, each by a random part of `most`.
    ///
    /// # Errors
    /// When the program that does it can't be started.
    pub(crate) fn delay(&mut self, to: Host, most: Duration) -> Result<()> {
        let program = std::env::current_exe()?;
        let child = Command::new("ip")
            .args(["netns", "exec", &to.namespace()])
            .arg(program)
            .args(["delay", &most.as_millis().to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        self.delays.push(child);
        let queue = QUEUE.to_string();
        // Without the program, packets pass.
        let rule = ["-j", "NFQUEUE", "--queue-num", &queue, "--queue-bypass"];
        in_chain(to, &rule)
    }

    /// Ends everything that is between the hosts.
    ///
    /// # Errors
    /// When rules can't be removed.
    pub(crate) fn heal(&mut self) -> Result<()> {
        for host in &self.hosts {
            in_namespace(*host, &["iptables", "-w", "-F", CHAIN])?;
        }
        for mut delay in self.delays.drain(..) {
            delay.kill()?;
            delay.wait()?;
        }
        Ok(())
    }
}

fn add(host: Host) -> Result<()> {
    let name = host.namespace();
    let outside = format!("v{name}");
    ip(&["netns", "add", &name])?;
    let pair = ["type", "veth", "peer", "name", "eth0", "netns", &name];
    ip(&[&["link", "add", &outside][..], &pair].concat())?;
    ip(&["link", "set", &outside, "master", BRIDGE, "up"])?;
    let address = format!("{}/24", host.address());
    for arguments in [
        &["address", "add", &address, "dev", "eth0"][..],
        &["link", "set", "eth0", "up"],
        &["link", "set", "lo", "up"],
    ] {
        ip(&[&["-n", &name][..], arguments].concat())?;
    }
    in_namespace(host, &["iptables", "-w", "-N", CHAIN])?;
    // Health checks from the bridge itself are no part of the network under test.
    let input = ["iptables", "-w", "-A", "INPUT", "!", "-s", "10.77.0.1"];
    in_namespace(host, &[&input[..], &["-i", "eth0", "-j", CHAIN]].concat())
}

fn in_chain(host: Host, rule: &[&str]) -> Result<()> {
    in_namespace(host, &[&["iptables", "-w", "-A", CHAIN][..], rule].concat())
}

fn in_namespace(host: Host, command: &[&str]) -> Result<()> {
    ip(&[&["netns", "exec", &host.namespace()][..], command].concat())
}

fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
