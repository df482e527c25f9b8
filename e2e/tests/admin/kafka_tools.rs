//! Kafka's own tools for the metadata quorum and for features.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::client::Java;
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::process::wait_until;
use klamm_e2e::suite::TIME_LIMIT;
use tempfile::TempDir;

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
    let status = quorum(&["describe", "--status"])?.stdout;
    ensure!(status.contains("LeaderId:"), "{status}");
    let members = members(&java)?;
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

    let removed = remove()?.stdout;
    let named = format!("KRaft controller {id} with directory id {directory_id}");
    ensure!(removed.contains(&named), "{removed}");
    wait_for_status(&java, follower.id, "Observer")?;
    let again = remove().err().context("removed twice")?;
    ensure!(
        format!("{again:#}").contains("VoterNotFoundException"),
        "{again:#}"
    );

    let controller = Controller::describe(cluster, follower)?;
    let add = || {
        java.tool("MetadataQuorumCommand")
            .args(["--command-config"])
            .args([&controller.config()])
            .args(["add-controller"])
            .run()
    };
    let added = add()?.stdout;
    let named = format!("Added controller {id} with directory id {directory_id}");
    ensure!(added.contains(&named), "{added}");
    wait_for_status(&java, follower.id, "Follower")?;
    let again = add().err().context("added twice")?;
    ensure!(
        format!("{again:#}").contains("DuplicateVoterException"),
        "{again:#}"
    );
    Ok(())
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

fn members(java: &Java) -> Result<Vec<Member>> {
    let described = java
        .tool("MetadataQuorumCommand")
        .args(["describe", "--replication"])
        .run()?
        .stdout;
    let member = |row: &str| {
        let fields: Vec<_> = row.split_whitespace().collect();
        Some(Member {
            id: fields.first()?.parse().ok()?,
            directory_id: (*fields.get(1)?).to_owned(),
            status: (*fields.last()?).to_owned(),
        })
    };
    Ok(described.lines().filter_map(member).collect())
}

fn wait_for_status(java: &Java, id: u16, status: &str) -> Result<()> {
    let what = format!("broker {id} is listed as {status}");
    wait_until(&what, TIME_LIMIT, || {
        let members = members(java).unwrap_or_default();
        members.iter().any(|m| m.id == id && m.status == status)
    })
}

/// Levels are told, kept, and not lowered below what is supported.
pub(crate) fn features(cluster: &DevCluster) -> Result<()> {
    let java = Java::new(&cluster.bootstrap())?;
    let features = |args: &[&str]| java.tool("FeatureCommand").args(args).run();
    let described = features(&["describe"])?.stdout;
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
    let same = features(&same)?.stdout;
    ensure!(same.contains("was upgraded to 1"), "{same}");
    for change in [
        ["upgrade", "--dry-run", "--feature", "metadata.version=28"],
        ["downgrade", "--dry-run", "--feature", "metadata.version=20"],
    ] {
        let refusal = features(&change).err();
        let refusal = format!("{:#}", refusal.context("a level that nobody supports")?);
        ensure!(
            refusal.contains("supports levels 27 to 27 of metadata.version"),
            "{refusal}"
        );
    }
    Ok(())
}
