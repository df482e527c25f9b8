//! Where brokers are, and which of them vote, as far as this one knows.
//!
//! Addresses in the configuration win over registered ones, and those over what a membership entry
//! says: a voter moves by configuration alone. The voters that were last heard of are kept in a
//! file, so that a broker finds the quorum after every initial voter has been replaced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::BrokerId;
use broker_core::quorum::VOTERS_MAX;
use tokio::sync::watch;

use super::feed::Feed;

const FILE: &str = "known-voters";

/// Voters with their `host:port`.
pub(crate) type Voters = BTreeMap<BrokerId, String>;

/// See the module's documentation.
pub(crate) struct Addresses {
    /// `controller.quorum.voters`
    configured: Voters,
    voters: watch::Sender<Voters>,
    feed: Arc<Feed>,
    path: PathBuf,
}

impl Addresses {
    /// Reads the voters that were known before a restart from `directory`. Blocks.
    pub(crate) fn open(configured: Voters, feed: Arc<Feed>, directory: &Path) -> Self {
        let path = directory.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let (id, address) = line.split_once('@')?;
            Some((BrokerId(id.parse().ok()?), address.to_owned()))
        });
        let voters: Voters = lines.take(VOTERS_MAX).collect();
        let voters = if voters.is_empty() {
            configured.clone()
        } else {
            voters
        };
        Self {
            configured,
            voters: watch::Sender::new(voters),
            feed,
            path,
        }
    }

    /// The current voters, as far as they are known.
    pub(crate) fn voters(&self) -> Vec<BrokerId> {
        self.voters.borrow().keys().copied().collect()
    }

    /// Takes note of the current voters.
    pub(crate) fn learn(&self, voters: Voters) {
        if !voters.is_empty() && voters.len() <= VOTERS_MAX {
            self.voters.send_if_modified(|known| {
                let changed = *known != voters;
                *known = voters;
                changed
            });
        }
    }

    /// Whom to ask at the `attempt`th time: the voters in turn, then who else is configured, then
    /// one of the other registered brokers. All the voters that this broker has heard of may be
    /// gone, but any broker can tell who the controller is.
    pub(crate) fn candidate(&self, attempt: usize) -> Option<BrokerId> {
        let voters = self.voters.borrow();
        let others = self.configured.keys().filter(|id| !voters.contains_key(id));
        let candidates: Vec<_> = voters.keys().chain(others).copied().collect();
        let image = self.feed.position().image;
        let registered = image.brokers.keys().copied();
        let registered: Vec<_> = registered.filter(|id| !candidates.contains(id)).collect();
        if registered.is_empty() {
            return candidates.get(attempt % candidates.len().max(1)).copied();
        }
        let (round, turn) = (
            attempt / (candidates.len() + 1),
            attempt % (candidates.len() + 1),
        );
        let next_registered = || registered[round % registered.len()];
        Some(
            candidates
                .get(turn)
                .copied()
                .unwrap_or_else(next_registered),
        )
    }

    /// `host:port` of a broker's gRPC server.
    pub(crate) fn address(&self, broker: BrokerId) -> Option<String> {
        if let Some(address) = self.configured.get(&broker) {
            return Some(address.clone());
        }
        let image = self.feed.position().image;
        if let Some(registered) = image.brokers.get(&broker) {
            return Some(format!("{}:{}", registered.rpc_host, registered.rpc_port));
        }
        self.voters.borrow().get(&broker).cloned()
    }

    /// Writes the voters down whenever they change.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut changes = self.voters.subscribe();
        while changes.changed().await.is_ok() {
            let voters = changes.borrow_and_update().clone();
            let path = self.path.clone();
            let written = tokio::task::spawn_blocking(move || write(&path, &voters)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "the voters were not written down");
            }
        }
    }
}

fn write(path: &Path, voters: &Voters) -> io::Result<()> {
    let lines = voters
        .iter()
        .map(|(id, address)| format!("{id}@{address}\n"));
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, lines.collect::<String>())?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Image, Record, RegisterBroker};

    use super::*;

    fn voters(ids: &[i32]) -> Voters {
        let voters = ids.iter().map(|id| (BrokerId(*id), format!("host-{id}:1")));
        voters.collect()
    }

    #[tokio::test]
    async fn voters_are_found_again_after_the_initial_ones_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Addresses::open(voters(&[0]), Arc::new(Feed::new()), dir.path());
        let addresses = Arc::new(open());
        assert_eq!(addresses.voters(), [BrokerId(0)]);
        let kept = tokio::spawn(Arc::clone(&addresses).keep());
        tokio::task::yield_now().await;
        addresses.learn(voters(&[3, 4]));
        addresses.learn(Voters::new());
        while !dir.path().join(FILE).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        kept.abort();

        let reopened = open();
        assert_eq!(reopened.voters(), [BrokerId(3), BrokerId(4)]);
        let asked: Vec<_> = (0..4).filter_map(|turn| reopened.candidate(turn)).collect();
        assert_eq!(asked, [3, 4, 0, 3].map(BrokerId));
        assert_eq!(reopened.address(BrokerId(4)).as_deref(), Some("host-4:1"));
    }

    #[test]
    fn a_broker_that_missed_every_change_of_the_voters_never_found_the_quorum_again() {
        let feed = Arc::new(Feed::new());
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses::open(voters(&[0]), Arc::clone(&feed), dir.path());
        let mut image = Image::default();
        for broker_id in 0..4 {
            let registration = RegisterBroker {
                broker_id,
                ..RegisterBroker::default()
            };
            image.apply(&Record::RegisterBroker(registration)).unwrap();
        }
        feed.replace(0, &Arc::new(image));
        let asked: Vec<_> = (0..8)
            .filter_map(|turn| addresses.candidate(turn))
            .collect();
        assert_eq!(asked, [0, 1, 0, 2, 0, 3, 0, 1].map(BrokerId));
    }
}
