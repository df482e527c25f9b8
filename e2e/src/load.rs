//! What the load program (`load` of `e2e/clients/go`) says about its messages, checked against what
//! the topic holds afterwards.
//!
//! Message n of a partition has the value `PARTITION n`: loss, repetition and disorder are visible
//! in each partition on its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

/// What the load saw.
#[derive(Debug, Default)]
pub struct Load {
    /// By partition, in the order in which they arrived.
    acknowledged: BTreeMap<i32, Vec<Acknowledgement>>,
    failed: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Acknowledgement {
    offset: i64,
    number: u64,
    /// Since 1970.
    at_us: u64,
}

impl Load {
    /// Reads the lines of the program.
    ///
    /// # Errors
    /// On a line that it does not print.
    pub fn parse(stdout: &str) -> Result<Self> {
        let mut load = Self::default();
        for line in stdout.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            match fields[..] {
                ["acked", partition, offset, number, at_us] => {
                    let acknowledgement = Acknowledgement {
                        offset: offset.parse()?,
                        number: number.parse()?,
                        at_us: at_us.parse()?,
                    };
                    let partition = load.acknowledged.entry(partition.parse()?).or_default();
                    partition.push(acknowledgement);
                }
                ["failed", ..] => load.failed.push(line.to_owned()),
                _ => bail!("not a line of the load: {line:?}"),
            }
        }
        Ok(load)
    }

    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    /// The longest time within the span during which a partition acknowledged nothing, though it
    /// was sent messages all the time.
    #[must_use]
    pub fn longest_stall_us(&self, from_us: u64, until_us: u64) -> u64 {
        let stall = |acknowledgements: &Vec<Acknowledgement>| {
            let times = acknowledgements.iter().map(|a| a.at_us);
            let inside = times.filter(|at| (from_us..until_us).contains(at));
            let (mut longest, mut last) = (0, from_us);
            for at in inside.chain([until_us]) {
                longest = longest.max(at.saturating_sub(last));
                last = at;
            }
            longest
        };
        self.acknowledged.values().map(stall).max().unwrap_or(0)
    }

    /// Checks the topic, as `read` prints it: each acknowledged message is at its offset, and in
    /// each partition the messages are those sent, once and in order.
    ///
    /// # Errors
    /// The first violation.
    pub fn verify(&self, read: &str) -> Result<()> {
        if let Some(first) = self.failed.first() {
            bail!(
                "{} messages were given up, first: {first}",
                self.failed.len()
            );
        }
        let mut partitions: BTreeMap<i32, BTreeMap<i64, u64>> = BTreeMap::new();
        let mut last = BTreeMap::new();
        for message in crate::messages::parse(read)? {
            let (partition, number) = message.value.split_once(' ').context("strange value")?;
            let number: u64 = number.parse()?;
            ensure!(
                partition.parse() == Ok(message.partition),
                "in the wrong partition: {message:?}"
            );
            let expected = last.insert(message.partition, number).map_or(0, |n| n + 1);
            ensure!(
                number == expected,
                "{message:?} where message {expected} belongs: lost, repeated or out of order"
            );
            let offsets = partitions.entry(message.partition).or_default();
            offsets.insert(message.offset, number);
        }
        for (partition, acknowledgements) in &self.acknowledged {
            let offsets = partitions.get(partition).context("a partition is empty")?;
            for a in acknowledgements {
                ensure!(
                    offsets.get(&a.offset) == Some(&a.number),
                    "{a:?} of partition {partition}, but the topic has message {:?} there",
                    offsets.get(&a.offset)
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Load;

    const LOAD: &str = "acked 0 0 0 1000\nacked 1 0 0 1100\nacked 0 1 1 5000\n";

    #[test]
    fn a_stall_is_the_longest_gap_of_a_partition() {
        let load = Load::parse(LOAD).expect("well formed");
        assert_eq!(load.longest_stall_us(500, 6000), 4900);
        assert_eq!(load.longest_stall_us(4500, 5200), 700);
    }

    #[test]
    fn loss_repetition_and_disorder_are_found() {
        let load = Load::parse(LOAD).expect("well formed");
        let (first, second, other) = ("0\t0\t\t0 0\n", "0\t1\t\t0 1\n", "1\t0\t\t1 0\n");
        load.verify(&[first, other, second].concat())
            .expect("all there");
        let unacknowledged = "0\t2\t\t0 2\n";
        load.verify(&[first, other, second, unacknowledged].concat())
            .expect("what was not acknowledged may be there");

        let lost = [first, other].concat();
        let repeated = [first, other, second, "0\t2\t\t0 1\n"].concat();
        let disorder = ["0\t0\t\t0 1\n", other, "0\t1\t\t0 0\n"].concat();
        let moved = [first, other, "0\t2\t\t0 1\n"].concat();
        for read in [lost, repeated, disorder, moved] {
            load.verify(&read).expect_err("a violation");
        }
        let given_up = Load::parse("failed 0 7 timed out\n").expect("well formed");
        given_up.verify("").expect_err("messages were given up");
    }
}
