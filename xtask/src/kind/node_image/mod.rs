//! The image that kind's nodes run: `kindest/node` where it can be pulled, else one built from
//! Debian packages and Go modules by the files under `e2e/kind/`.
//!
//! A built image is named after a hash of all its inputs, so it is built again exactly when one of
//! them changes.

mod build;
mod images;
mod inputs;

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::engine::Engine;
use crate::process::announce;
use build::Build;

/// kind v0.30.0's own image of the same minor release.
const STOCK_IMAGE: &str = "docker.io/kindest/node:v1.34.0";

/// Where the node image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// The stock image if it is here or can be pulled, else packages
    Auto,
    /// kindest/node
    Stock,
    /// Build it from Debian packages and Go modules
    Packages,
}

/// A node image that the engine has.
pub(crate) struct NodeImage {
    pub(crate) name: String,
    /// A kubectl of the same release, where one was built.
    pub(crate) kubectl: Option<PathBuf>,
}

/// Makes sure that the engine has the image that `source` asks for.
pub(crate) fn ensure(engine: &Engine, source: Source) -> Result<NodeImage> {
    let build = Build::new()?;
    match source {
        Source::Packages => build.ensure(engine),
        Source::Stock if has_stock(engine) => Ok(stock()),
        Source::Stock => {
            bail!("cannot pull {STOCK_IMAGE}: use --node-image packages to build one instead")
        }
        // An image built earlier says that pulling failed then; trying again would cost a time-out.
        Source::Auto if engine.has_image(&build.image) => build.ensure(engine),
        Source::Auto if has_stock(engine) => Ok(stock()),
        Source::Auto => {
            println!("    cannot be pulled here; building a node image from packages instead");
            build.ensure(engine)
        }
    }
}

fn has_stock(engine: &Engine) -> bool {
    if engine.has_image(STOCK_IMAGE) {
        return true;
    }
    announce(format!("pulling {STOCK_IMAGE}"));
    engine.pull(STOCK_IMAGE)
}

fn stock() -> NodeImage {
    NodeImage {
        name: STOCK_IMAGE.to_owned(),
        kubectl: None,
    }
}
