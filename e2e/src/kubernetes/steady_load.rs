//! A producer that sends with acks=all at a steady rate while something happens to the cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::client::{Program, franz_go};
use crate::load::Load;
use crate::process::Signal;
use crate::tool::Running;

const MESSAGES_PER_SECOND: &str = "1000";
/// The producer's patience with one message, and what flushing takes after it.
const STOP_LIMIT: Duration = Duration::from_secs(130);
/// For leaders to move, and for brokers to start.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// A producer that runs; it ends when it is dropped.
pub struct SteadyLoad {
    client: Program,
    running: Running,
    topic: String,
    partitions: i32,
    started_us: u64,
}

/// What the producer saw.
#[derive(Debug)]
pub struct Outcome {
    pub acknowledged: usize,
    /// Longest time during which a partition acknowledged nothing.
    pub longest_stall: Duration,
}

impl SteadyLoad {
    /// Begins to produce to all partitions of a topic, and waits for acknowledgements.
    ///
    /// # Errors
    /// When there are none in time.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Result<Self> {
        let client = franz_go(bootstrap)?;
        let arguments = ["load", topic, &partitions.to_string(), MESSAGES_PER_SECOND];
        let running = client.tool(&arguments).spawn()?;
        let mut load = Self {
            client,
            running,
            topic: topic.to_owned(),
            partitions,
            started_us: 0,
        };
        load.wait_for_progress()?;
        load.started_us = now_us();
        Ok(load)
    }

    /// Waits until messages were acknowledged that were sent after this was called: more than can
    /// have been under way.
    ///
    /// # Errors
    /// When there are too few in time.
    pub fn wait_for_progress(&mut self) -> Result<()> {
        let before = self.running.stdout_lines();
        let enough = before + 100 * usize::try_from(self.partitions)?;
        let what = "more messages are acknowledged";
        self.running.wait_for(what, PROGRESS_LIMIT, |running| {
            running.stdout_lines() >= enough
        })
    }

    /// Ends the load, reads the topic and compares: every message was acknowledged and is in the
    /// topic, where the acknowledgement said, once and in order.
    ///
    /// # Errors
    /// The first violation.
    pub fn stop_and_verify(mut self) -> Result<Outcome> {
        let stopped_us = now_us();
        let output = self.running.stop(Signal::TERM, STOP_LIMIT)?;
        let load = Load::parse(&output.stdout)?;
        let topic = self.client.tool(&["read", &self.topic]).run()?;
        load.verify(&topic.stdout)?;
        let stall_us = load.longest_stall_us(self.started_us, stopped_us);
        Ok(Outcome {
            acknowledged: load.acknowledged(),
            longest_stall: Duration::from_micros(stall_us),
        })
    }
}

fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |time| {
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    })
}
