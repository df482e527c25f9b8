//! What this broker does as metadata is committed: partitions first, then what follows from their roles.

use std::sync::Arc;

use broker_core::metadata::Image;
use tokio::sync::watch;

use crate::api::Coordinators;
use crate::controller::{Controller, Position};
use crate::partition::{PartitionManager, RoleEvent};
use crate::replica::Fetchers;

/// Applies metadata until there is no controller any more.
pub(super) async fn follow_metadata(
    controller: Arc<Controller>,
    partitions: Arc<PartitionManager>,
    mut fetchers: Fetchers,
    coordinators: Coordinators,
) {
    let mut images = controller.watch();
    if !registration_applied(&controller, &mut images).await {
        return;
    }
    let mut failures = partitions.dirs().failures().watch();
    let mut positions = controller.positions();
    let mut applied = Arc::new(Image::default());
    let mut strays_deleted = false;
    loop {
        let Position { offset, image: new } = positions.borrow_and_update().clone();
        let (manager, old, image) = (
            Arc::clone(&partitions),
            Arc::clone(&applied),
            Arc::clone(&new),
        );
        let work = tokio::task::spawn_blocking(move || manager.apply(&old, &image));
        let events: Vec<RoleEvent> = match work.await {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(%error, "metadata could not be applied");
                std::process::abort();
            }
        };
        fetchers.configure(&new);
        fetchers.apply(&events).await;
        coordinators.groups.apply(&events);
        coordinators.transactions.apply(&events);
        for topic in deleted_topics(&applied, &new) {
            coordinators.groups.on_topic_deleted(topic);
        }
        applied = new;
        controller.metadata_applied(offset);
        // An unfenced broker has all metadata up to its registration.
        if !strays_deleted && !controller.is_fenced() {
            partitions.delete_strays(&applied);
            strays_deleted = true;
        }
        let goes_on = tokio::select! {
            changed = positions.changed() => changed,
            changed = failures.changed() => changed,
            () = partitions.needs_attention() => Ok(()),
        };
        if goes_on.is_err() {
            return;
        }
    }
}

/// Waits for metadata that has this run's registration; `false` when none will come.
///
/// Earlier metadata has the roles of the run before. This one may have lost what they stand on: a
/// leader that went on in its epoch would give offsets a second value.
async fn registration_applied(
    controller: &Controller,
    images: &mut watch::Receiver<Arc<Image>>,
) -> bool {
    let mut epochs = controller.broker_epochs();
    loop {
        let _ = epochs.borrow_and_update();
        if controller.is_registered_in(&images.borrow_and_update()) {
            return true;
        }
        let changed = tokio::select! {
            changed = epochs.changed() => changed,
            changed = images.changed() => changed,
        };
        if changed.is_err() {
            return false;
        }
    }
}

fn deleted_topics<'a>(old: &'a Image, new: &'a Image) -> impl Iterator<Item = &'a str> {
    let gone = old
        .topics
        .iter()
        .filter(|(id, _)| !new.topics.contains_key(id));
    gone.map(|(_, topic)| &*topic.name)
}
