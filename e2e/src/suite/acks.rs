//! Every `acks`.

use anyhow::{Context as _, Result};

use super::{consume, send};
use crate::cases::Cases;
use crate::client::MatrixClient;
use crate::messages::verify;

/// The leaders are known, and the partitions there, once all replicas acknowledged.
const ACKS: [&str; 3] = ["all", "1", "0"];
const MESSAGES: u64 = 1_000;

pub(super) fn cases(cases: &mut Cases, client: &dyn MatrixClient) {
    let name = client.name();
    cases.run(&format!("{name}: every acks"), || every_acks(client));
}

fn every_acks(client: &dyn MatrixClient) -> Result<()> {
    let topic = format!("{}-acks", client.name());
    client.ensure_topic(&topic)?;
    let mut end = 0;
    for acks in ACKS {
        let producer = client.producer_with_acks(&topic, acks);
        send(producer, end..end + MESSAGES).with_context(|| format!("acks={acks}"))?;
        end += MESSAGES;
    }
    let mut members = [client.member(&topic, &format!("{topic}-group")).spawn()?];
    verify(&consume(&mut members, end)?, 0..end)
}
