//! The time that counts: after a warm-up, so long. What brokers used in it is taken at its ends.

use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::usage::Usage;

#[derive(Clone, clap::Args)]
pub(crate) struct WindowOptions {
    /// Load before anything counts
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    warm_up: f64,
    /// How long is measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Measure so many requests of each connection instead, without a warm-up
    #[arg(long)]
    requests: Option<u64>,
    /// Processes of the brokers, with commas between
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

/// When load starts, counts and ends.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) opened: Instant,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    /// Of each connection.
    pub(crate) requests_max: u64,
}

/// What brokers used while load counted.
#[derive(Serialize)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) broker_cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
}

impl WindowOptions {
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    pub(crate) fn open(&self) -> Window {
        let opened = Instant::now();
        if let Some(requests_max) = self.requests {
            return Window {
                opened,
                from: opened,
                until: opened + Duration::from_secs(3600),
                requests_max,
            };
        }
        let from = opened + Duration::from_secs_f64(self.warm_up);
        Window {
            opened,
            from,
            until: from + Duration::from_secs_f64(self.seconds),
            requests_max: u64::MAX,
        }
    }

    /// Runs the load. Its connections are done soon after the window, or with their last request.
    pub(crate) async fn measure(
        &self,
        window: Window,
        load: impl Future<Output = Result<()>>,
    ) -> Result<Used> {
        let mut load = pin!(load);
        let warms_up = window.opened < window.from;
        let mut ended = warms_up && ends_by(load.as_mut(), window.from).await?;
        let (before, start) = (Usage::of(&self.pids)?, Instant::now());
        if !ended {
            ended = ends_by(load.as_mut(), window.until).await?;
        }
        let (after, seconds) = (Usage::of(&self.pids)?, start.elapsed().as_secs_f64());
        if !ended {
            load.await?;
        }
        Ok(Used {
            seconds,
            broker_cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            rss_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_peak_bytes,
        })
    }
}

/// Whether the load ends before that time.
async fn ends_by(load: Pin<&mut impl Future<Output = Result<()>>>, until: Instant) -> Result<bool> {
    match timeout_at(until, load).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Ok(false),
    }
}

impl Window {
    pub(crate) fn contains(&self, at: Instant) -> bool {
        self.from <= at && at < self.until
    }
}
