//! The gRPC Admin service as the operator uses it to restart, cordon, empty and fill brokers, and Kafka's
//! tools for the metadata quorum.

mod kafka_tools;
mod rebalance;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use klamm_e2e::admin::{AdminService, expect_refusal};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite::{TIME_LIMIT, produce};
use klamm_e2e::tool::Running;
use klamm_proto::v1::config_verdict::Verdict;
use klamm_proto::v1::drain_status_response::State;
use klamm_proto::v1::restart_blocker::Reason;
use klamm_proto::v1::{
    ApplyConfigRequest, ApplyConfigResponse, BrokerState, CancelDrainRequest, CheckRestartRequest,
    CheckRestartResponse, CordonRequest, DrainStatusRequest, DrainStatusResponse,
    PrepareRestartRequest, PrepareRestartResponse, RestartRecoveryRequest, RestartRecoveryResponse,
    StartDrainRequest, UncordonRequest, UnregisterBrokerRequest, ValidateConfigRequest,
};
use tonic::{Code, Status};

const BROKERS: u16 = 3;
const PARTITIONS: usize = 6;
const MESSAGES_PER_SECOND: &str = "1000";
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut cases = Cases::new("admin");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(BROKERS, &["leader.imbalance.check.interval.seconds=1"])?;
    let test = Test {
        client: franz_go(&cluster.bootstrap())?,
        // Which of them is the controller does not matter to the one who asks.
        admins: [
            AdminService::of(&cluster, 0)?,
            AdminService::of(&cluster, 1)?,
            AdminService::of(&cluster, 2)?,
        ],
        cluster,
    };
    cases.run(
        "a broker is restarted under load when it is safe, and recovers",
        || test.restart(),
    );
    cases.run(
        "a prepared restart that does not come gives the leaders back",
        || test.lease_expires(),
    );
    cases.run("a cordoned broker gets no new replicas", || test.cordon());
    cases.run("running brokers take what needs no restart", || {
        test.apply_config()
    });
    cases.run("a drain that is cancelled moves nothing back", || {
        test.cancel_drain()
    });
    cases.run("a broker is emptied under load", || test.drain());
    cases.run("a rebalance waits for brokers and is cancelled", || {
        rebalance::pause_and_cancel(&test)
    });
    cases.run("an empty broker gets its share under load", || {
        rebalance::under_load(&test)
    });
    cases.run("a voter leaves and joins by kafka-metadata-quorum", || {
        kafka_tools::change_voters(&test.cluster)
    });
    cases.run("features are told and guarded by kafka-features", || {
        kafka_tools::features(&test.cluster)
    });
    cases.run("a client over its quota is slowed down", || {
        kafka_tools::quotas(&test.cluster)
    });
    cases.run(
        "without a majority of the voters no restart is called safe",
        || test.no_controller(),
    );
    if cases.any_failed() {
        test.cluster.print_logs();
    }
    Ok(())
}

struct Test {
    cluster: DevCluster,
    client: Program,
    admins: [AdminService; 3],
}

impl Test {
    fn restart(&self) -> Result<()> {
        let topic = "restart";
        self.create_topic(topic, 3)?;
        let load = self.start_load(topic)?;
        let healthy = self.check_restart(&[1])?;
        ensure!(healthy.safe && healthy.accepted_total == 0, "{healthy:?}");
        let snapshot = healthy.snapshot.unwrap_or_default();
        ensure!(snapshot.metadata_offset > 0 && snapshot.controller_epoch > 0);

        let both = self.check_restart(&[0, 1])?;
        let reasons: Vec<_> = both.blockers.iter().map(|found| found.reason()).collect();
        ensure!(
            !both.safe && reasons.contains(&Reason::QuorumLoss),
            "{both:?}"
        );
        ensure!(reasons.contains(&Reason::BelowMinIsr), "{both:?}");
        let unknown = self.try_check_restart(0, &[9]);
        expect_refusal(unknown, Code::NotFound)?;

        let before = self.admins[0].broker(1)?;
        ensure!(before.state() == BrokerState::Serving, "{before:?}");
        ensure!(
            before.started_at_ms > 0 && before.config_hash.len() == 16,
            "{before:?}"
        );
        expect_refusal(
            self.prepare_restart(1, "another", 60_000),
            Code::FailedPrecondition,
        )?;
        wait_until("broker 1 leads nothing", TIME_LIMIT, || {
            let prepared = self.prepare_restart(1, &before.incarnation, 60_000);
            prepared.is_ok_and(|prepared| prepared.leaders_left == 0)
        })?;
        let prepared = self.admins[0].broker(1)?;
        ensure!(prepared.leaders == 0, "{prepared:?}");
        ensure!(prepared.state() == BrokerState::Draining, "{prepared:?}");
        ensure!(
            prepared.in_sync == prepared.replicas,
            "it stays in sync: {prepared:?}"
        );
        ensure!(
            self.check_restart(&[1])?.safe,
            "the same broker may still stop"
        );
        ensure!(!self.check_restart(&[2])?.safe, "another one may not");

        let pid = self.cluster.broker_pid(1)?;
        self.cluster.kill(1)?;
        self.cluster.wait_until_restarted(1, pid)?;
        self.wait_until_recovered(1, &before.incarnation)?;
        ensure!(self.check_restart(&[0])?.safe, "the next one may stop");
        self.finish_load(topic, load)
    }

    fn lease_expires(&self) -> Result<()> {
        self.create_topic("lease", 3)?;
        let before = self.admins[0].broker(2)?;
        ensure!(before.leaders > 0, "{before:?}");
        self.prepare_restart(2, &before.incarnation, 3_000)?;
        ensure!(self.admins[0].broker(2)?.leaders == 0, "its leaders moved");
        wait_until("the lease ends", TIME_LIMIT, || {
            let now = self.admins[0].broker(2);
            now.is_ok_and(|now| {
                now.state() == BrokerState::Serving && now.leaders == before.leaders
            })
        })?;

        self.prepare_restart(2, &before.incarnation, 600_000)?;
        self.prepare_restart(2, &before.incarnation, 0)?;
        let now = self.admins[0].broker(2)?;
        ensure!(now.leaders == before.leaders, "taken back: {now:?}");
        Ok(())
    }

    fn cordon(&self) -> Result<()> {
        let cordon = CordonRequest { broker: 1 };
        self.admins[2].call(cordon, async |mut client, request| {
            client.cordon(request).await
        })?;
        ensure!(self.admins[0].broker(1)?.cordoned);
        self.create_topic("cordoned", 2)?;
        let states = self.client.describe_topic("cordoned")?;
        ensure!(
            states.iter().all(|state| !state.replicas.contains(&1)),
            "{states:?}"
        );
        let refused = self.client.create_topic("cordoned-3", PARTITIONS, 3);
        ensure!(refused.is_err(), "two brokers cannot have three replicas");

        let uncordon = UncordonRequest { broker: 1 };
        self.admins[2].call(uncordon, async |mut client, request| {
            client.uncordon(request).await
        })?;
        self.create_topic("uncordoned", 3)?;
        let incarnation = self.admins[0].broker(1)?.incarnation;
        let in_use = UnregisterBrokerRequest {
            broker: 1,
            incarnation,
        };
        let refused = self.admins[0].call(in_use, async |mut client, request| {
            client.unregister_broker(request).await
        });
        expect_refusal(refused, Code::FailedPrecondition)
    }

    /// Topics with three replicas block it: three brokers have nowhere else to go.
    fn cancel_drain(&self) -> Result<()> {
        self.create_topic("everywhere", 3)?;
        let before = self.admins[0].broker(1)?.replicas;
        self.start_drain(1)?;
        wait_until("the drain says what blocks it", TIME_LIMIT, || {
            self.drain_status(1).is_ok_and(|now| {
                let mut blocked = now.blocked_by.iter();
                now.state() == State::Draining
                    && now.last_progress_at_ms > 0
                    && blocked.any(|found| found.reason.contains("add a broker"))
            })
        })?;
        self.cancel_drain_of(1)?;
        ensure!(self.drain_status(1)?.state() == State::None);
        let after = self.admins[0].broker(1)?;
        ensure!(after.replicas <= before && !after.drain, "{after:?}");
        Ok(())
    }

    fn drain(&self) -> Result<()> {
        for topic in self.client.list_topics()? {
            self.client.delete_topic(&topic)?;
        }
        self.create_topic("drained", 2)?;
        let load = self.start_load("drained")?;
        let replicas = self.admins[0].broker(0)?.replicas;
        ensure!(replicas > 0);
        self.start_drain(0)?;
        ensure!(self.admins[0].broker(0)?.drain);
        wait_until("no replica is left", TIME_LIMIT, || {
            let status = self.drain_status(0);
            status.is_ok_and(|now| now.state() == State::Drained && now.replicas_left == 0)
        })?;
        println!("    {replicas} replicas moved");
        let states = self.client.describe_topic("drained")?;
        ensure!(states.len() == PARTITIONS);
        for state in &states {
            let (mut replicas, mut isr) = (state.replicas.clone(), state.isr.clone());
            replicas.sort_unstable();
            isr.sort_unstable();
            ensure!(replicas == [1, 2] && isr == replicas, "{states:?}");
        }
        self.finish_load("drained", load)?;
        self.cancel_drain_of(0)
    }

    fn apply_config(&self) -> Result<()> {
        self.create_topic("configured", 3)?;
        let properties = [
            ("message.max.bytes", "100"),
            ("num.partitions", "4"),
            ("no.such.key", "1"),
            ("log.retention.ms", "soon"),
        ];
        let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = ValidateConfigRequest {
            broker: None,
            properties: properties.into(),
        };
        let answer = self.admins[0].call(request, async |mut client, request| {
            client.validate_config(request).await
        })?;
        let verdicts: Vec<_> = answer.verdicts.iter().map(|v| v.verdict()).collect();
        let expected = [
            Verdict::Invalid,
            Verdict::Dynamic,
            Verdict::Unknown,
            Verdict::NeedsRestart,
        ];
        ensure!(!answer.valid && verdicts == expected, "{answer:?}");

        let limit = ("message.max.bytes", "100");
        let refused = self.set_config(&[limit, ("no.such.key", "1")], &[]);
        expect_refusal(refused, Code::InvalidArgument)?;
        let applied = self.set_config(&[limit, ("num.partitions", "4")], &[])?;
        ensure!(applied.applied == ["message.max.bytes"], "{applied:?}");
        ensure!(applied.needs_restart == ["num.partitions"], "{applied:?}");
        let send = || produce(&self.client, "configured", 0..100, "none");
        wait_until("long batches are refused", TIME_LIMIT, || send().is_err())?;
        let told = self.admins[0].describe_cluster()?.dynamic_config;
        ensure!(told.get(limit.0).map(String::as_str) == Some(limit.1));
        self.set_config(&[], &["message.max.bytes"])?;
        wait_until("long batches are taken again", TIME_LIMIT, || {
            send().is_ok()
        })
    }

    fn set_config(
        &self,
        set: &[(&str, &str)],
        reset: &[&str],
    ) -> Result<ApplyConfigResponse, Status> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = ApplyConfigRequest {
            broker: None,
            set_config: set.iter().map(owned).collect(),
            reset_config: reset.iter().map(|key| (*key).to_owned()).collect(),
        };
        self.admins[0].call(request, async |mut client, request| {
            client.apply_config(request).await
        })
    }

    fn start_drain(&self, broker: i32) -> Result<()> {
        let request = StartDrainRequest { broker };
        self.admins[1].call(request, async |mut client, request| {
            client.start_drain(request).await
        })?;
        Ok(())
    }

    fn cancel_drain_of(&self, broker: i32) -> Result<()> {
        let request = CancelDrainRequest { broker };
        self.admins[1].call(request, async |mut client, request| {
            client.cancel_drain(request).await
        })?;
        Ok(())
    }

    fn drain_status(&self, broker: i32) -> Result<DrainStatusResponse, Status> {
        let request = DrainStatusRequest { broker };
        self.admins[2].call(request, async |mut client, request| {
            client.drain_status(request).await
        })
    }

    fn no_controller(&self) -> Result<()> {
        let paused = [self.cluster.broker_pid(1)?, self.cluster.broker_pid(2)?];
        for pid in paused {
            pause(pid)?;
        }
        let answer = self.try_check_restart(0, &[0]);
        for pid in paused {
            send_signal(pid, Signal::CONT)?;
        }
        expect_refusal(answer, Code::Unavailable)?;
        wait_until("a restart is safe again", TIME_LIMIT, || {
            self.check_restart(&[0]).is_ok_and(|answer| answer.safe)
        })
    }

    fn create_topic(&self, topic: &str, replicas: usize) -> Result<()> {
        self.client.create_topic(topic, PARTITIONS, replicas)?;
        self.client
            .tool(&["wait-isr"])
            .time_limit(TIME_LIMIT)
            .run()?;
        Ok(())
    }

    fn start_load(&self, topic: &str) -> Result<Running> {
        let partitions = PARTITIONS.to_string();
        let load = self
            .client
            .tool(&["load", topic, &partitions, MESSAGES_PER_SECOND]);
        let mut load = load.spawn()?;
        load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
            load.stdout_lines() > PARTITIONS
        })?;
        Ok(load)
    }

    /// Ends the load and checks that every acknowledged message is there, once and in order.
    fn finish_load(&self, topic: &str, mut load: Running) -> Result<()> {
        let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
        let load = Load::parse(&output.stdout)?;
        println!("    {} messages acknowledged", load.acknowledged());
        load.verify(&self.client.tool(&["read", topic]).run()?.stdout)
    }

    fn try_check_restart(
        &self,
        at: usize,
        brokers: &[i32],
    ) -> Result<CheckRestartResponse, Status> {
        let request = CheckRestartRequest {
            brokers: brokers.to_vec(),
        };
        self.admins[at].call(request, async |mut client, request| {
            client.check_restart(request).await
        })
    }

    /// Asks every broker, which all have to answer alike.
    fn check_restart(&self, brokers: &[i32]) -> Result<CheckRestartResponse> {
        let answer = self.try_check_restart(0, brokers)?;
        for other in 1..self.admins.len() {
            let other = self.try_check_restart(other, brokers)?;
            ensure!(other.safe == answer.safe, "{answer:?}, elsewhere {other:?}");
        }
        Ok(answer)
    }

    fn prepare_restart(
        &self,
        broker: i32,
        incarnation: &str,
        ttl_ms: u64,
    ) -> Result<PrepareRestartResponse, Status> {
        let request = PrepareRestartRequest {
            broker,
            incarnation: incarnation.to_owned(),
            ttl_ms,
        };
        self.admins[1].call(request, async |mut client, request| {
            client.prepare_restart(request).await
        })
    }

    fn recovery(&self, broker: i32) -> Result<RestartRecoveryResponse, Status> {
        let request = RestartRecoveryRequest { broker };
        self.admins[2].call(request, async |mut client, request| {
            client.restart_recovery(request).await
        })
    }

    fn wait_until_recovered(&self, broker: i32, old_incarnation: &str) -> Result<()> {
        wait_until("the broker is as it was", TIME_LIMIT, || {
            self.recovery(broker).is_ok_and(|now| {
                now.incarnation != old_incarnation
                    && now.state() == BrokerState::Serving
                    && (now.in_sync_pct, now.replicas_not_in_sync) == (100, 0)
                    && now.preferred_leaders_pct == 100
            })
        })
    }
}
