//! Delays packets: a program for one network namespace, whose rules send packets to its queue. Each
//! is let through after a random time, so that they also overtake each other.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use klamm_e2e::random::Random;
use nfq::{Queue, Verdict};

use crate::network::QUEUE;

const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// More packets than this at a time pass undelayed.
const HELD_MAX: usize = 10_000;

/// Runs until it is killed; then the kernel lets everything pass.
///
/// # Errors
/// When the queue can't be opened.
pub(crate) fn run(most: Duration) -> Result<()> {
    let mut queue = Queue::open().context("can't open a netfilter queue")?;
    queue.bind(QUEUE)?;
    queue.set_nonblocking(true);
    let mut random = Random::from_seed(u64::from(std::process::id()));
    let mut held = BTreeMap::new();
    let mut count = 0_u64;
    loop {
        while let Ok(mut packet) = queue.recv() {
            packet.set_verdict(Verdict::Accept);
            let delay_us = random.within(0..most.as_micros() as u64 + 1);
            let due = Instant::now() + Duration::from_micros(delay_us);
            if held.len() < HELD_MAX {
                count += 1;
                held.insert((due, count), packet);
            } else {
                queue.verdict(packet)?;
            }
        }
        while let Some(first) = held.first_entry()
            && first.key().0 <= Instant::now()
        {
            queue.verdict(first.remove())?;
        }
        sleep(POLL_INTERVAL);
    }
}
