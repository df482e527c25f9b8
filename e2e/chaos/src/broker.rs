//! One broker: a real process in a network namespace of its own, on a disk of its own, under a boot
//! id and a clock that can be changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::dev_cluster::http_status;
use klamm_e2e::process::{Signal, anonymous_memory_bytes, send_signal};
use klamm_e2e::random::Random;

use crate::disk::Disk;
use crate::network::Host;

pub(crate) const CLIENT_PORT: u16 = 9092;
pub(crate) const RPC_PORT: u16 = 9095;
const HTTP_PORT: u16 = 9404;

/// With the refusals of producers, which tell what led to a duplicate.
const LOG_FILTER: &str =
    "RUST_LOG=info,klamm_broker::api::produce=debug,openraft=error,h2=warn,hyper=warn,tonic=warn";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Gives the process the boot id in the file that is its first argument.
const UNDER_BOOT_ID: &str = "mount --bind \"$1\" \"$0\" && shift && exec \"$@\"";
/// What the harness has done to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Runs,
    Paused,
    /// It was stopped, and stays so until it is started
    Stopped,
}

pub(crate) struct Broker {
    id: u16,
    directory: PathBuf,
    settings: Vec<String>,
    pub(crate) disk: Disk,
    process: Option<Child>,
    condition: Condition,
}

impl Broker {
    /// Prepares a broker with an empty disk; it does not run.
    ///
    /// # Errors
    /// When the disk can't be mounted.
    pub(crate) fn new(id: u16, directory: &Path, common: &[String]) -> Result<Self> {
        let directory = directory.join(format!("broker-{id}"));
        fs::create_dir_all(&directory)?;
        let disk = Disk::mount(&directory)?;
        let address = Host::Broker(id).address();
        let mut settings = vec![
            format!("node.id={id}"),
            format!("log.dirs={}", disk.path().join("data").display()),
            format!("listeners=PLAINTEXT://{address}:{CLIENT_PORT}"),
            format!("klamm.rpc.listener={address}:{RPC_PORT}"),
            format!("klamm.http.listener={address}:{HTTP_PORT}"),
        ];
        settings.extend_from_slice(common);
        let mut broker = Self {
            id,
            directory,
            settings,
            disk,
            process: None,
            condition: Condition::Stopped,
        };
        broker.set_boot_id(u64::from(id))?;
        broker.set_clock(0)?;
        Ok(broker)
    }

    pub(crate) const fn id(&self) -> u16 {
        self.id
    }

    pub(crate) const fn condition(&self) -> Condition {
        self.condition
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    /// What the broker takes as the time of its kernel's start.
    fn set_boot_id(&mut self, number: u64) -> Result<()> {
        let text = format!(
            "00000000-0000-4000-8000-{:012x}\n",
            number & 0xffff_ffff_ffff
        );
        Ok(fs::write(self.directory.join("boot-id"), text)?)
    }

    /// Moves the broker's wall clock so many seconds away from the truth.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn set_clock(&mut self, offset_seconds: i64) -> Result<()> {
        let file = self.directory.join("clock");
        Ok(fs::write(file, format!("{offset_seconds:+}\n"))?)
    }

    /// Starts the process if it does not run.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &Host::Broker(self.id).namespace()])
            .args(["sh", "-c", UNDER_BOOT_ID, BOOT_ID])
            .arg(self.directory.join("boot-id"))
            .arg("env")
            .arg(format!("LD_PRELOAD={}", faketime()?))
            .args([
                LOG_FILTER,
                "FAKETIME_DONT_FAKE_MONOTONIC=1",
                "FAKETIME_CACHE_DURATION=1",
            ])
            .arg(format!(
                "FAKETIME_TIMESTAMP_FILE={}",
                self.directory.join("clock").display()
            ))
            .arg(klamm_e2e::dev_cluster::broker_binary()?)
            .arg("run");
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start a broker")?;
        self.process = Some(child);
        self.condition = Condition::Runs;
        Ok(())
    }

    /// Kills the process as SIGKILL does, and waits until it has gone.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.condition = Condition::Stopped;
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Asks the process to stop.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.condition = Condition::Stopped;
        Ok(())
    }

    /// # Errors
    /// When it does not run.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.condition = Condition::Paused;
        Ok(())
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if self.condition == Condition::Paused {
            self.signal(Signal::CONT)?;
            self.condition = Condition::Runs;
        }
        Ok(())
    }

    /// Kills the process and takes back what it had not synced; it then starts under another kernel.
    ///
    /// # Errors
    /// When the disk can't be changed.
    pub(crate) fn lose_power(&mut self, random: &mut Random) -> Result<String> {
        self.kill()?;
        self.set_boot_id(random.number())?;
        self.disk.lose_power(random)
    }

    /// How the process ended, if it has since the last look.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub(crate) fn take_end(&mut self) -> Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else {
            return Ok(None);
        };
        let status = process.try_wait()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// # Errors
    /// When the library that moves its wall clock is not in the process, as when the program is
    /// linked statically.
    pub(crate) fn ensure_clock_can_move(&self) -> Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.id()))?;
        ensure!(
            maps.contains(&faketime()?),
            "the broker's wall clock can't be moved: link {} dynamically",
            klamm_e2e::dev_cluster::broker_binary()?.display()
        );
        Ok(())
    }

    /// Whether it says that it serves clients.
    pub(crate) fn is_ready(&self) -> bool {
        let address = format!("{}:{HTTP_PORT}", Host::Broker(self.id).address());
        let address = address.parse().expect("an address and a port");
        self.condition == Condition::Runs
            && http_status(address, "/readyz").is_ok_and(|status| status == 200)
    }

    /// Its memory, 0 when it does not run.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let process = self.process.as_ref();
        process
            .and_then(|process| anonymous_memory_bytes(process.id()).ok())
            .unwrap_or(0)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref();
        let process = process.with_context(|| format!("broker {} does not run", self.id))?;
        send_signal(process.id(), signal)
    }
}

/// The library that moves wall clocks, of programs with threads, where Debian and Ubuntu have it.
fn faketime() -> Result<String> {
    let architecture = std::env::consts::ARCH;
    let path = format!("/usr/lib/{architecture}-linux-gnu/faketime/libfaketimeMT.so.1");
    ensure!(Path::new(&path).is_file(), "no {path}: install libfaketime");
    Ok(path)
}
