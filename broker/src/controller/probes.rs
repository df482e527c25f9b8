//! Dials brokers whose heartbeat stream is gone. A refused connection proves that the process has
//! ended: its listener is open for as long as it is registered. Any other outcome proves nothing.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use broker_core::BrokerId;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use broker_core::liveness::Unheard;

/// Brokers that are dialled at a time.
const PROBES_MAX: usize = 64;
const DIAL_TIMEOUT: Duration = Duration::from_millis(300);

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Probes {
    dialled: BTreeSet<BrokerId>,
    dials: JoinSet<(Unheard, Outcome)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Unknown,
}

impl Probes {
    /// Dials a broker unless that is under way.
    pub(crate) fn dial(&mut self, broker: Unheard, address: String) {
        if self.dials.len() < PROBES_MAX && self.dialled.insert(broker.id) {
            self.dials
                .spawn(async move { (broker, dial(&address).await) });
        }
    }

    /// Waits for a broker whose process has ended; forever when none is dialled.
    pub(crate) async fn ended(&mut self) -> Unheard {
        loop {
            match self.dials.join_next().await {
                Some(Ok((broker, outcome))) => {
                    self.dialled.remove(&broker.id);
                    if outcome == Outcome::Refused {
                        return broker;
                    }
                }
                // A dial that panicked says nothing; its broker waits for the grace period.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

async fn dial(address: &str) -> Outcome {
    match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Refused,
        Ok(_) | Err(_) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use broker_core::BrokerEpoch;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_refused_connection_is_a_proof() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(dial(&address).await, Outcome::Unknown);
        drop(listener);
        assert_eq!(dial(&address).await, Outcome::Refused);
        assert_eq!(dial("no-such-host.invalid:1").await, Outcome::Unknown);

        let broker = Unheard {
            id: BrokerId(1),
            epoch: BrokerEpoch(7),
        };
        let mut probes = Probes::default();
        probes.dial(broker, address);
        assert_eq!(probes.ended().await, broker);
    }
}
