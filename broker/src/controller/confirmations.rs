//! Answers of the active controller that say that this broker's metadata is not stale.
//!
//! A broker that is slow to apply metadata goes on as the leader of what the controller has given to
//! another one. What it replicates nobody takes from it, but what it answers from memory may be out of
//! date. Such an answer waits for a heartbeat that was sent after the question: by its answer this broker
//! led what it leads when it has applied the controller's metadata (as Raft's read index).

use tokio::sync::watch;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    /// How many were asked for.
    asked: watch::Sender<u64>,
    /// The last one that was given; those before it were, too.
    given: watch::Sender<u64>,
}

impl Confirmations {
    /// Returns once the metadata of a heartbeat's answer is applied that was sent after the call.
    pub(crate) async fn next(&self) {
        let mut given = self.given.subscribe();
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        // The sender lives as long as this.
        let _ = given.wait_for(|given| *given >= number).await;
    }

    /// Changes whenever somebody asks.
    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    pub(crate) fn last_asked(&self) -> u64 {
        *self.asked.borrow()
    }

    pub(crate) fn confirm(&self, number: u64) {
        self.given.send_if_modified(|given| {
            let is_news = number > *given;
            *given = number.max(*given);
            is_news
        });
    }
}
