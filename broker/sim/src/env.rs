//! What everybody in a run shares: time, the queue of events, the network, the trace, the checker.

use std::fmt::Display;
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{Time, Timestamp};

use crate::check::Checker;
use crate::event::{BrokerTimer, Event, Message, Peer, Queue};
use crate::network::{Fate, Network};
use crate::plan::BrokerPlan;
use crate::random::Random;
use crate::trace::{Micros, Trace};

/// Stands for the start of wall-clock time.
const EPOCH_MILLIS: u64 = 1_700_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) now: Micros,
    pub(crate) queue: Queue,
    pub(crate) network: Network,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) check: Checker,
    /// Number of the running process of each broker, 0 when there is none.
    pub(crate) runs: Vec<u32>,
    pub(crate) clocks: Vec<BrokerPlan>,
    /// The committed metadata: the image after each entry of the log.
    pub(crate) images: Vec<Arc<Image>>,
    /// The active controller.
    pub(crate) controller: Option<usize>,
    pub(crate) healed: bool,
    last_id: u64,
}

impl Env {
    pub(crate) fn new(
        network: Network,
        random: Random,
        clocks: Vec<BrokerPlan>,
        trace: Trace,
    ) -> Self {
        Self {
            now: 0,
            queue: Queue::default(),
            network,
            random,
            trace,
            check: Checker::default(),
            runs: vec![0; clocks.len()],
            clocks,
            images: vec![Arc::new(Image::default())],
            controller: None,
            healed: false,
            last_id: 0,
        }
    }

    /// Of requests, streams and processes: none is given out twice.
    pub(crate) const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The newest committed metadata.
    pub(crate) fn image(&self) -> &Arc<Image> {
        self.images
            .last()
            .expect("the log begins with an empty image")
    }

    /// Monotonic time as the broker measures it: clocks differ, and run at different rates.
    pub(crate) fn time(&self, broker: usize) -> Time {
        let clock = self.clocks[broker];
        Time(clock.clock_ahead_millis + self.now * clock.clock_rate_ppm / 1_000_000_000)
    }

    /// Wall-clock time as the broker sees it.
    pub(crate) fn timestamp(&self, broker: usize) -> Timestamp {
        Timestamp((EPOCH_MILLIS + self.time(broker).0) as i64)
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.queue.add(self.now + delay, event);
    }

    pub(crate) fn timer(&mut self, broker: usize, delay: Micros, timer: BrokerTimer) {
        let run = self.runs[broker];
        self.after(delay, Event::BrokerTimer { broker, run, timer });
    }

    /// Over a connection of its own: later messages may overtake it, and it may come twice.
    pub(crate) fn send(&mut self, from: Peer, to: Peer, message: Message) {
        match self.network.fate(self.now, from, to) {
            Fate::Lost => {}
            Fate::Arrives(delay, again) => {
                if let Some(again) = again {
                    self.deliver(from, to, self.now + again, message.clone());
                }
                self.deliver(from, to, self.now + delay, message);
            }
        }
    }

    /// A command to the controller: later ones may overtake it, and it may come twice.
    pub(crate) fn send_command(&mut self, from: Peer, to: Peer, message: &Message) {
        let delays = self.network.command_delays(self.now, from, to);
        for delay in delays.into_iter().flatten() {
            self.deliver(from, to, self.now + delay, message.clone());
        }
    }

    /// On a stream: in order, and never twice. `last` is when the stream's last message arrives.
    /// `false` when the link is cut, which breaks the stream.
    pub(crate) fn send_in_order(
        &mut self,
        from: Peer,
        to: Peer,
        message: Message,
        last: &mut Micros,
    ) -> bool {
        if !self.network.reaches(self.now, from, to) {
            return false;
        }
        let delay = self.network.stream_delay(self.now, from, to);
        let at = (self.now + delay).max(*last + 1);
        *last = at;
        self.deliver(from, to, at, message);
        true
    }

    fn deliver(&mut self, from: Peer, to: Peer, at: Micros, message: Message) {
        let run = match to {
            Peer::Broker(broker) => self.runs[broker],
            Peer::Client(_) => 0,
        };
        let event = Event::Deliver {
            from,
            to,
            run,
            message,
        };
        self.queue.add(at, event);
    }

    pub(crate) fn note<L: Display>(&mut self, who: impl Display, line: impl FnOnce() -> L) {
        self.trace.add(self.now, who, line);
    }
}
