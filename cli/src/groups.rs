//! `klamm groups`

use anyhow::Result;
use clap::Subcommand;
use klamm_client::Cluster;
use klamm_client::groups::GroupDetail;
use serde::Serialize;

use crate::output::{Output, print_line};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List groups
    List,
    /// Show how far a group is in every partition, and who reads it
    Describe { group: String },
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    state: &'a str,
}

#[derive(Serialize)]
struct Described<'a> {
    state: &'a str,
    members: Vec<Member<'a>>,
    offsets: Vec<Offset<'a>>,
    lag: i64,
}

#[derive(Serialize)]
struct Member<'a> {
    id: &'a str,
    client_id: &'a str,
    host: &'a str,
}

#[derive(Serialize)]
struct Offset<'a> {
    topic: &'a str,
    partition: i32,
    committed: i64,
    end: i64,
    lag: i64,
    member: Option<&'a str>,
}

pub(crate) async fn run(cluster: &Cluster, output: Output, command: Command) -> Result<()> {
    match command {
        Command::List => {
            let groups = cluster.groups().await?;
            let listed = groups.iter().map(|group| Listed {
                name: &group.name,
                state: &group.state,
            });
            let listed: Vec<_> = listed.collect();
            let rows = listed.iter();
            let rows = rows.map(|group| [group.name.to_owned(), group.state.to_owned()]);
            output.print(&listed, ["GROUP", "STATE"], rows.collect())
        }
        Command::Describe { group } => show(&cluster.group(&group).await?, output),
    }
}

fn show(group: &GroupDetail, output: Output) -> Result<()> {
    let offsets = group.offsets.iter().map(|offset| Offset {
        topic: &offset.topic,
        partition: offset.partition,
        committed: offset.committed,
        end: offset.end,
        lag: offset.lag(),
        member: offset.member.as_deref(),
    });
    let members = group.members.iter().map(|member| Member {
        id: &member.id,
        client_id: &member.client_id,
        host: &member.host,
    });
    let described = Described {
        state: &group.state,
        members: members.collect(),
        offsets: offsets.collect(),
        lag: group.offsets.iter().map(|offset| offset.lag()).sum(),
    };
    if output == Output::Table {
        let (members, lag) = (described.members.len(), described.lag);
        print_line(&format!("{}, members: {members}, lag: {lag}", group.state))?;
        if described.offsets.is_empty() {
            return print_line("nothing is committed");
        }
    }
    let rows = described.offsets.iter().map(|offset| {
        [
            offset.topic.to_owned(),
            offset.partition.to_string(),
            offset.committed.to_string(),
            offset.end.to_string(),
            offset.lag.to_string(),
            offset.member.unwrap_or("-").to_owned(),
        ]
    });
    let rows = rows.collect();
    let heading = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
    output.print(&described, heading, rows)
}
