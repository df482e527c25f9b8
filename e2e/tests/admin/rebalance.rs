//! A broker without replicas gets its share, under load; before, that is paused and broken off.

use anyhow::{Result, ensure};
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_proto::v1::rebalance_status_response::State;
use klamm_proto::v1::{
    BrokerState, CancelRebalanceRequest, CordonRequest, RebalanceStatusRequest,
    RebalanceStatusResponse, StartRebalanceRequest, UncordonRequest,
};
use tonic::Status;

use super::Test;

const TOPIC: &str = "rebalanced";
/// Has been emptied.
const BROKER: i32 = 0;

/// The moves wait for a broker that is not alive, until they are cancelled.
pub(super) fn pause_and_cancel(test: &Test) -> Result<()> {
    let outlook = status(test)?;
    ensure!(outlook.state() == State::None, "{outlook:?}");
    ensure!(
        outlook.partitions_left > 0 && outlook.uneven_total > 0,
        "{outlook:?}"
    );
    let planned = outlook.planned.first();
    let why = planned.map_or("", |planned| &planned.reason);
    ensure!(why.contains("broker 0 has 0"), "{outlook:?}");

    let pid = test.cluster.broker_pid(u16::try_from(BROKER)?)?;
    pause(pid)?;
    let paused = pause_and_cancel_without(test);
    send_signal(pid, Signal::CONT)?;
    paused?;
    wait_until("the broker serves again", TIME_LIMIT, || {
        let broker = test.admins[2].broker(BROKER);
        broker.is_ok_and(|broker| broker.state() == BrokerState::Serving)
    })?;
    let broker = test.admins[2].broker(BROKER)?;
    ensure!(broker.replicas == 0, "{broker:?}");
    Ok(())
}

fn pause_and_cancel_without(test: &Test) -> Result<()> {
    wait_until("the broker is missed", TIME_LIMIT, || {
        let broker = test.admins[2].broker(BROKER);
        broker.is_ok_and(|broker| broker.state() == BrokerState::Fenced)
    })?;
    start(test)?;
    wait_until("the rebalance says what it waits for", TIME_LIMIT, || {
        let known = status(test);
        known.is_ok_and(|now| {
            now.state() == State::Rebalancing
                && now.last_progress_at_ms > 0
                && now.paused.starts_with("broker 0 is not alive")
        })
    })?;
    let cancel = CancelRebalanceRequest {};
    test.admins[1].repeat(cancel, async |mut client, request| {
        client.cancel_rebalance(request).await
    })?;
    let now = status(test)?;
    ensure!(now.state() == State::None, "{now:?}");
    Ok(())
}

pub(super) fn under_load(test: &Test) -> Result<()> {
    create_topic_elsewhere(test)?;
    let load = test.start_load(TOPIC)?;
    let expected = status(test)?.partitions_left;
    start(test)?;
    wait_until("the rebalance has ended", TIME_LIMIT, || {
        status(test).is_ok_and(|now| now.state() == State::None && now.partitions_left == 0)
    })?;
    let after = status(test)?;
    ensure!(
        after.uneven_total == 0 && after.kept.is_empty(),
        "{after:?}"
    );
    let replicas = counts(test, |broker| broker.replicas)?;
    ensure!(is_even(&replicas), "replicas {replicas:?}");
    wait_until("every broker leads its share", TIME_LIMIT, || {
        counts(test, |broker| broker.leaders).is_ok_and(|leaders| is_even(&leaders))
    })?;
    println!("    {expected} partitions moved, now {replicas:?} replicas");
    test.finish_load(TOPIC, load)
}

/// The broker is cordoned meanwhile, so that it gets nothing of it.
fn create_topic_elsewhere(test: &Test) -> Result<()> {
    let cordon = CordonRequest { broker: BROKER };
    test.admins[1].repeat(cordon, async |mut client, request| {
        client.cordon(request).await
    })?;
    test.create_topic(TOPIC, 2)?;
    let uncordon = UncordonRequest { broker: BROKER };
    test.admins[1].repeat(uncordon, async |mut client, request| {
        client.uncordon(request).await
    })?;
    Ok(())
}

fn counts(
    test: &Test,
    count: impl Fn(&klamm_proto::v1::BrokerDescription) -> u32,
) -> Result<Vec<u32>> {
    let cluster = test.admins[2].describe_cluster()?;
    Ok(cluster.brokers.iter().map(count).collect())
}

fn is_even(counts: &[u32]) -> bool {
    let most = counts.iter().max().copied().unwrap_or(0);
    counts.iter().all(|count| most - count <= 1)
}

fn start(test: &Test) -> Result<()> {
    test.admins[1].repeat(StartRebalanceRequest {}, async |mut client, request| {
        client.start_rebalance(request).await
    })?;
    Ok(())
}

fn status(test: &Test) -> Result<RebalanceStatusResponse, Status> {
    let request = RebalanceStatusRequest { explain: true };
    test.admins[2].repeat(request, async |mut client, request| {
        client.rebalance_status(request).await
    })
}
