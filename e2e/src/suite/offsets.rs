//! Reading from a given offset.

use anyhow::{Result, ensure};

use super::produce;
use crate::cases::Cases;
use crate::client::MatrixClient;
use crate::messages::parse;

/// Each of the topic's partitions has some hundreds of them.
const MESSAGES: u64 = 6_000;
const PARTITION: i32 = 2;
const OFFSET: i64 = 300;
/// Beyond the end of every partition.
const MISSING_OFFSET: i64 = 1_000_000;
const COUNT: usize = 100;

pub(super) fn cases(cases: &mut Cases, client: &dyn MatrixClient) {
    let name = client.name();
    let topic = format!("{name}-offsets");
    cases.run(&format!("{name}: read from an offset"), || {
        client.ensure_topic(&topic)?;
        produce(client, &topic, 0..MESSAGES, "none")?;
        read(client, &topic, OFFSET, OFFSET)
    });
    cases.run(
        &format!("{name}: an offset that is not there is reset"),
        || read(client, &topic, MISSING_OFFSET, 0),
    );
}

/// Asks for an offset and expects the messages from another one on.
fn read(client: &dyn MatrixClient, topic: &str, asked: i64, expected: i64) -> Result<()> {
    let output = client.reader_from(topic, PARTITION, asked, COUNT).run()?;
    let messages = parse(&output.stdout)?;
    ensure!(
        messages.len() == COUNT,
        "{} messages instead of {COUNT}",
        messages.len()
    );
    for (message, offset) in messages.iter().zip(expected..) {
        ensure!(
            (message.partition, message.offset) == (PARTITION, offset),
            "{message:?} where offset {offset} belongs"
        );
    }
    Ok(())
}
