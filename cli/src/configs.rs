//! `klamm configs`

use anyhow::Result;
use clap::{Args, Subcommand};
use klamm_client::Cluster;
use klamm_client::admin::{Config, ConfigChange, Resource};
use serde::Serialize;

use crate::output::Output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the values in effect
    Describe {
        #[command(flatten)]
        of: Of,
        /// Defaults, too
        #[arg(long)]
        all: bool,
    },
    /// Set values: all of them or none
    Set {
        #[command(flatten)]
        of: Of,
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        values: Vec<(String, String)>,
    },
    /// Go back to defaults
    Delete {
        #[command(flatten)]
        of: Of,
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// What the configuration belongs to.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Of {
    /// A topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// One broker
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// All brokers
    #[arg(long)]
    cluster: bool,
}

impl Of {
    fn resource(self) -> Resource {
        match (self.topic, self.broker) {
            (Some(topic), _) => Resource::Topic(topic),
            (None, Some(broker)) => Resource::Broker(broker),
            (None, None) => Resource::Cluster,
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// `null` for what is secret.
    value: Option<&'a str>,
    default: bool,
    read_only: bool,
}

/// `KEY=VALUE`, whose value may be empty.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE, as retention.ms=3600000".to_owned()),
    }
}

pub(crate) async fn run(cluster: &Cluster, output: Output, command: Command) -> Result<()> {
    match command {
        Command::Describe { of, all } => {
            let configs = cluster.configs(&of.resource()).await?;
            show(&configs, output, all)
        }
        Command::Set { of, values } => {
            let changes = values.into_iter();
            let changes = changes.map(|(key, value)| ConfigChange::Set(key, value));
            change(cluster, output, of, changes.collect()).await
        }
        Command::Delete { of, keys } => {
            let changes = keys.into_iter().map(ConfigChange::Delete);
            change(cluster, output, of, changes.collect()).await
        }
    }
}

async fn change(
    cluster: &Cluster,
    output: Output,
    of: Of,
    changes: Vec<ConfigChange>,
) -> Result<()> {
    let resource = of.resource();
    cluster.change_configs(&resource, &changes).await?;
    output.done(&format!("the configuration of {resource} is changed"))
}

fn show(configs: &[Config], output: Output, all: bool) -> Result<()> {
    let shown = configs.iter().filter(|config| all || !config.is_default);
    let shown: Vec<_> = shown
        .map(|config| Shown {
            name: &config.name,
            value: config.value.as_deref(),
            default: config.is_default,
            read_only: config.read_only,
        })
        .collect();
    let rows = shown.iter().map(|config| {
        [
            config.name.to_owned(),
            config.value.unwrap_or("(hidden)").to_owned(),
            if config.default { "default" } else { "set" }.to_owned(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() && output == Output::Table {
        return output.done("everything is at its default; --all shows it");
    }
    output.print(&shown, ["KEY", "VALUE", "SOURCE"], rows)
}
