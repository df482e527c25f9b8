//! Lines for a producer at a steady rate, while something happens to the brokers.

use std::io::Write as _;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::process::wait_until;
use crate::suite::TIME_LIMIT;
use crate::tool::Tool;

const TICK: Duration = Duration::from_millis(20);
/// For what is not acknowledged when the feed is over.
const END_LIMIT: Duration = Duration::from_secs(90);

/// What a producer is given.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// The line of a number, with its end
    pub line: fn(u64) -> String,
    /// Fifty ticks make a second.
    pub lines_per_tick: u64,
}

/// Numbered lines on their way to a producer.
#[derive(Debug)]
pub struct Feed {
    rate: Rate,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Feed {
    /// Starts the producer and feeds it, from line `first` on, until `meanwhile` returns; then waits
    /// until everything is acknowledged. Returns the number of the line that would come next.
    ///
    /// # Errors
    /// Those of `meanwhile`; when the producer fails, or does not end.
    pub fn during(
        producer: Tool,
        rate: Rate,
        first: u64,
        meanwhile: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<u64> {
        let (mut producer, stdin) = producer.spawn_with_stdin()?;
        let feed = Self {
            rate,
            next: AtomicU64::new(first),
            is_over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            let feeder = scope.spawn(|| feed.run(stdin));
            let happened = meanwhile(&feed);
            feed.is_over.store(true, Ordering::Relaxed);
            // The end of a program that does not read on is the end of its feeder, too.
            let limit = happened.as_ref().map_or(Duration::ZERO, |()| END_LIMIT);
            let produced = producer.wait(limit).map(drop);
            let fed = feeder.join().map_err(|_| anyhow!("the feeder panicked"))?;
            match (happened, produced) {
                (Err(error), Err(failure)) => Err(error.context(format!("{failure:#}"))),
                (happened, produced) => happened.and(produced).and(fed),
            }
        })?;
        Ok(feed.next())
    }

    fn run(&self, mut stdin: ChildStdin) -> Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            let next = self.next();
            let numbers = next..next + self.rate.lines_per_tick;
            let lines: String = numbers.map(self.rate.line).collect();
            stdin.write_all(lines.as_bytes())?;
            self.next
                .fetch_add(self.rate.lines_per_tick, Ordering::Relaxed);
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// The line that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Waits until so many more lines were given to the producer.
    ///
    /// # Errors
    /// When it does not read on.
    pub fn wait_for_more(&self, count: u64) -> Result<()> {
        let end = self.next() + count;
        wait_until("the producer reads on", TIME_LIMIT, || self.next() >= end)
    }
}
