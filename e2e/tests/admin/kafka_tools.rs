//! Kafka's own tools for the metadata quorum, for features and for quotas.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::client::Java;
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::process::wait_until;
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Output;
use tempfile::TempDir;

const NO_VOTER: &str = "VoterNotFoundException";
const A_VOTER: &str = "DuplicateVoterException";
/// No refusal is one.
const NEVER: &str = "\0";

const LIMITED_CLIENT: &str = "limited";
const LIMITED_BYTES_PER_SECOND: u32 = 200_000;

/// A row of `kafka-metadata-quorum describe --replication`.
#[derive(Debug)]
struct Member {
    id: u16,
    directory_id: String,
    status: String,
}

/// A voter is removed and added again.
pub(crate) fn change_voters(cluster: &DevCluster) -> Result<()> {
    let java = Java::new(&cluster.bootstrap())?;
    let quorum = |args: &[&str]| java.tool("MetadataQuorumCommand").args(args).run();
    let status = answered(|| quorum(&["describe", "--status"]), NEVER)?;
    ensure!(status.contains("LeaderId:"), "{status}");
    let members = members(&answered(|| describe(&java), NEVER)?);
    ensure!(members.len() == usize::from(cluster.nodes()), "{members:?}");
    let follower = members.iter().find(|member| member.status == "Follower");
    let follower = follower.context("no follower")?;
    let (id, directory_id) = (follower.id.to_string(), follower.directory_id.as_str());
    let removal = [
        "--controller-id",
        &id,
        "--controller-directory-id",
        directory_id,
    ];
    let remove = || quorum(&[&["remove-controller"], &removal[..]].concat());

    let removed = answered(remove, NO_VOTER)?;
    let named = format!("KRaft controller {id} with directory id {directory_id}");
    ensure!(
        removed.contains(&named) || removed.contains(NO_VOTER),
        "{removed}"
    );
    wait_for_status(&java, follower.id, &["Observer"])?;
    let again = answered(remove, NEVER).err().context("removed twice")?;
    ensure!(format!("{again:#}").contains(NO_VOTER), "{again:#}");

    let controller = Controller::describe(cluster, follower)?;
    let add = || {
        java.tool("MetadataQuorumCommand")
            .args(["--command-config"])
            .args([&controller.config()])
            .args(["add-controller"])
            .run()
    };
    let added = answered(add, A_VOTER)?;
    let named = format!("Added controller {id} with directory id {directory_id}");
    ensure!(added.contains(&named) || added.contains(A_VOTER), "{added}");
    wait_for_status(&java, follower.id, &["Follower", "Leader"])?;
    let again = answered(add, NEVER).err().context("added twice")?;
    ensure!(format!("{again:#}").contains(A_VOTER), "{again:#}");
    Ok(())
}

/// What the tool prints, or the refusal `repeated` of what was done already. Asks again while nobody
/// answers: on a busy machine a controller may lapse, and nobody knows what became of the request.
fn answered(ask: impl Fn() -> Result<Output>, repeated: &str) -> Result<String> {
    let mut unanswered = false;
    let mut answer = None;
    wait_until("the controller answers", TIME_LIMIT, || {
        answer = match ask() {
            Ok(output) => Some(Ok(output.stdout)),
            Err(error) => {
                let text = format!("{error:#}");
                if text.contains("TimeoutException") {
                    unanswered = true;
                    None
                } else if unanswered && text.contains(repeated) {
                    Some(Ok(text))
                } else {
                    Some(Err(error))
                }
            }
        };
        answer.is_some()
    })?;
    answer.context("no answer")?
}

/// What the tool wants to find of a controller on its own machine.
struct Controller(TempDir);

impl Controller {
    fn describe(cluster: &DevCluster, member: &Member) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let Member {
            id, directory_id, ..
        } = member;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        fs::write(
            data.join("meta.properties"),
            format!("version=1\ncluster.id=any\nnode.id={id}\ndirectory.id={directory_id}\n"),
        )?;
        let controller = Self(directory);
        fs::write(
            controller.config(),
            format!(
                "node.id={id}\nprocess.roles=controller\ncontroller.listener.names=CONTROLLER\n\
                 listeners=CONTROLLER://{}\nlog.dirs={}\n",
                cluster.rpc_address(*id),
                data.display()
            ),
        )?;
        Ok(controller)
    }

    fn config(&self) -> std::path::PathBuf {
        self.0.path().join("controller.properties")
    }
}

fn describe(java: &Java) -> Result<Output> {
    let tool = java.tool("MetadataQuorumCommand");
    tool.args(["describe", "--replication"]).run()
}

fn members(described: &str) -> Vec<Member> {
    let member = |row: &str| {
        let fields: Vec<_> = row.split_whitespace().collect();
        Some(Member {
            id: fields.first()?.parse().ok()?,
            directory_id: (*fields.get(1)?).to_owned(),
            status: (*fields.last()?).to_owned(),
        })
    };
    described.lines().filter_map(member).collect()
}

fn wait_for_status(java: &Java, id: u16, statuses: &[&str]) -> Result<()> {
    let what = format!("broker {id} is listed as {statuses:?}");
    wait_until(&what, TIME_LIMIT, || {
        let described = describe(java).map(|output| output.stdout);
        let members = members(&described.unwrap_or_default());
        members
            .iter()
            .any(|m| m.id == id && statuses.contains(&&*m.status))
    })
}

/// Levels are told, kept, and not lowered below what is supported.
pub(crate) fn features(cluster: &DevCluster) -> Result<()> {
    let java = Java::new(&cluster.bootstrap())?;
    let features = |args: &[&str]| java.tool("FeatureCommand").args(args).run();
    let described = answered(|| features(&["describe"]), NEVER)?;
    for (feature, level) in [
        ("metadata.version", "4.1-IV1"),
        ("eligible.leader.replicas.version", "1"),
    ] {
        let line = described.lines().find(|line| line.contains(feature));
        let line = line.with_context(|| described.clone())?;
        ensure!(
            line.contains(&format!("FinalizedVersionLevel: {level}")),
            "{line}"
        );
    }
    let same = ["upgrade", "--feature", "eligible.leader.replicas.version=1"];
    let same = answered(|| features(&same), NEVER)?;
    ensure!(same.contains("was upgraded to 1"), "{same}");
    for change in [
        ["upgrade", "--dry-run", "--feature", "metadata.version=28"],
        ["downgrade", "--dry-run", "--feature", "metadata.version=20"],
    ] {
        let refusal = answered(|| features(&change), NEVER).err();
        let refusal = format!("{:#}", refusal.context("a level that nobody supports")?);
        ensure!(
            refusal.contains("supports levels 27 to 27 of metadata.version"),
            "{refusal}"
        );
    }
    Ok(())
}

/// A quota is set, shown, kept to and taken away.
pub(crate) fn quotas(cluster: &DevCluster) -> Result<()> {
    let java = Java::new(&cluster.bootstrap())?;
    let of_client = ["--entity-type", "clients", "--entity-name", LIMITED_CLIENT];
    let quota = format!("producer_byte_rate={LIMITED_BYTES_PER_SECOND}");
    let configs = |args: &[&str]| java.configs().args(args).args(of_client).run();
    answered(|| configs(&["--alter", "--add-config", &quota]), NEVER)?;
    let described = answered(|| configs(&["--describe"]), NEVER)?;
    ensure!(described.contains(&quota), "{described}");

    let create = ["--create", "--topic", "limited", "--partitions", "1"];
    let topics = java.tool("TopicCommand").args(create);
    topics.run()?;
    let perf = java
        .class("ProducerPerformance")
        .args(["--topic", "limited", "--num-records", "1000"])
        .args(["--record-size", "1000", "--throughput", "-1"])
        .args(["--producer-props", "acks=all"])
        .args([format!("client.id={LIMITED_CLIENT}")])
        .args([format!("bootstrap.servers={}", java.bootstrap())])
        .run()?;
    let summary = perf.stdout.lines().last().unwrap_or_default();
    let rate = summary.split(',').nth(1);
    let rate = rate.and_then(|rate| rate.split_whitespace().next()?.parse::<f64>().ok());
    let rate = rate.with_context(|| summary.to_owned())?;
    // A second's worth passes at once, and the last answer is not waited for.
    ensure!(
        rate * 1000.0 < 2.0 * f64::from(LIMITED_BYTES_PER_SECOND),
        "{summary}"
    );

    let delete = ["--alter", "--delete-config", "producer_byte_rate"];
    answered(|| configs(&delete), NEVER)?;
    let described = answered(|| configs(&["--describe"]), NEVER)?;
    ensure!(!described.contains("producer_byte_rate"), "{described}");
    let half = ["--alter", "--add-config", "producer_byte_rate=0.5"];
    let refusal = answered(|| configs(&half), NEVER).err();
    let refusal = format!("{:#}", refusal.context("half a byte per second")?);
    ensure!(refusal.contains("give a whole number"), "{refusal}");
    mutation_quota(&java)
}

/// Of all clients, because each of the tools calls itself something else.
fn mutation_quota(java: &Java) -> Result<()> {
    let everybody = ["--entity-type", "clients", "--entity-default"];
    let configs = |args: &[&str]| java.configs().args(args).args(everybody).run();
    let quotas = "controller_mutation_rate=0.5,request_percentage=150.5";
    answered(|| configs(&["--alter", "--add-config", quotas]), NEVER)?;
    let described = answered(|| configs(&["--describe"]), NEVER)?;
    for quota in quotas.split(',') {
        ensure!(described.contains(quota), "{described}");
    }
    let create = |name: &str| {
        let args = ["--create", "--partitions", "60", "--topic", name];
        java.tool("TopicCommand").args(args).run()
    };
    create("overdraws")?;
    let refusal = create("waits").err();
    let refusal = format!("{:#}", refusal.context("a topic beyond the quota")?);
    ensure!(refusal.contains("controller_mutation_rate"), "{refusal}");
    let keys = "controller_mutation_rate,request_percentage";
    answered(|| configs(&["--alter", "--delete-config", keys]), NEVER)?;
    create("waits").map(drop)
}
