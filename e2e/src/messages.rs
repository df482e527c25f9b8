//! Keyed messages whose content follows from their number, and what must hold for those consumed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Keys are used in turn, so each of them has many messages.
const KEYS: u64 = 997;
/// Values differ in length up to so many bytes.
const FILLER_BYTES_MAX: u64 = 200;

/// A message as a client printed it: `partition<TAB>offset<TAB>key<TAB>value`, where Java's console
/// consumer writes `Partition:` and `Offset:` before the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: String,
}

/// The key of a message.
#[must_use]
pub fn key(number: u64) -> String {
    format!("key-{}", number % KEYS)
}

/// The value of a message.
#[must_use]
pub fn value(number: u64) -> String {
    let filler = usize::try_from(number.wrapping_mul(2_654_435_761) % FILLER_BYTES_MAX);
    let filler = "klamm ".chars().cycle().take(filler.unwrap_or(0));
    format!("{number:09}:{}.", filler.collect::<String>())
}

/// A message as producers read it: a line, key and value with a tab between.
#[must_use]
pub fn line(number: u64) -> String {
    format!("{}\t{}\n", key(number), value(number))
}

/// Writes messages as producers read them.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, numbers: Range<u64>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("can't create {}", path.display()))?;
    let mut lines = BufWriter::new(file);
    for number in numbers {
        lines.write_all(line(number).as_bytes())?;
    }
    lines.flush()?;
    Ok(())
}

/// Reads what a consumer printed.
///
/// # Errors
/// On a line that is no message.
pub fn parse(text: &str) -> Result<Vec<Consumed>> {
    text.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Result<Consumed> {
    let malformed = || format!("not a message: {line:?}");
    let mut fields = line.splitn(4, '\t');
    let mut next = || fields.next().with_context(malformed);
    Ok(Consumed {
        partition: after(next()?, "Partition:")
            .parse()
            .with_context(malformed)?,
        offset: after(next()?, "Offset:").parse().with_context(malformed)?,
        key: next()?.to_owned(),
        value: next()?.to_owned(),
    })
}

fn after<'a>(field: &'a str, label: &str) -> &'a str {
    field.strip_prefix(label).unwrap_or(field)
}

/// Checks what the members of a group consumed of messages that one producer sent in order: each
/// message once, with its content, its key always in the same partition, and in each partition in
/// the order of sending, which is the order of offsets.
///
/// # Errors
/// The first violation.
pub fn verify(members: &[Vec<Consumed>], expected: Range<u64>) -> Result<()> {
    verify_delivery(members, expected, Delivery::ExactlyOnce)
}

/// What a producer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    ExactlyOnce,
    /// Messages whose acknowledgement was lost may be there twice, and before earlier ones.
    AtLeastOnce,
}

/// As [`verify`], for what the producer promises.
///
/// # Errors
/// The first violation.
pub fn verify_delivery(
    members: &[Vec<Consumed>],
    expected: Range<u64>,
    delivery: Delivery,
) -> Result<()> {
    let once = delivery == Delivery::ExactlyOnce;
    let mut seen = BTreeSet::new();
    let mut partition_of_key = HashMap::new();
    for consumed in members {
        let mut last = BTreeMap::new();
        for message in consumed {
            let number = number_of(message)?;
            ensure!(
                expected.contains(&number),
                "not sent to this topic: {message:?}"
            );
            ensure!(seen.insert(number) || !once, "consumed twice: {message:?}");
            let partition = *partition_of_key
                .entry(message.key.clone())
                .or_insert(message.partition);
            ensure!(
                partition == message.partition,
                "key in partition {partition} as well: {message:?}"
            );
            if let Some((offset, earlier)) =
                last.insert(message.partition, (message.offset, number))
            {
                ensure!(
                    offset < message.offset && (earlier < number || !once),
                    "after message {earlier} at offset {offset}: {message:?}"
                );
            }
        }
    }
    let missing: Vec<_> = expected.filter(|number| !seen.contains(number)).collect();
    if let Some(first) = missing.first() {
        bail!(
            "{} messages are missing, the first is {first}",
            missing.len()
        );
    }
    Ok(())
}

fn number_of(message: &Consumed) -> Result<u64> {
    let number = message.value.split(':').next();
    let number = number.and_then(|digits| digits.parse().ok());
    let number = number.with_context(|| format!("strange value: {message:?}"))?;
    ensure!(
        message.value == value(number) && message.key == key(number),
        "changed content: {message:?}"
    );
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::{Consumed, Delivery, key, parse, value, verify, verify_delivery};

    fn message(partition: i32, offset: i64, number: u64) -> Consumed {
        Consumed {
            partition,
            offset,
            key: key(number),
            value: value(number),
        }
    }

    #[test]
    fn a_line_is_a_message() {
        let text = format!("3\t17\t{}\t{}\n", key(5), value(5));
        assert_eq!(parse(&text).expect("well formed"), [message(3, 17, 5)]);
        assert!(parse("3\t17\tkey\n").is_err());
    }

    #[test]
    fn at_least_once_is_repeated_but_not_lost() {
        let repeated = [vec![message(0, 0, 0), message(0, 1, 1), message(0, 2, 0)]];
        verify_delivery(&repeated, 0..2, Delivery::AtLeastOnce).expect("all there");
        verify_delivery(&repeated, 0..3, Delivery::AtLeastOnce).expect_err("one is lost");
        verify(&repeated, 0..2).expect_err("one is there twice");
    }

    #[test]
    fn every_violation_is_found() {
        let good = vec![message(0, 0, 0), message(1, 0, 1), message(0, 1, 2)];
        verify(from_ref(&good), 0..3).expect("all there, in order");
        verify(&[good[..2].to_vec(), good[2..].to_vec()], 0..3).expect("two members");

        let lost = verify(from_ref(&good), 0..4);
        let foreign = verify(from_ref(&good), 0..2);
        let twice = verify(&[good.clone(), good], 0..3);
        let order = verify(&[vec![message(0, 0, 2), message(0, 1, 0)]], 0..3);
        let moved = verify(&[vec![message(0, 0, 0), message(1, 0, 997)]], 0..998);
        let changed = Consumed {
            key: key(1),
            ..message(0, 0, 0)
        };
        let changed = verify(&[vec![changed]], 0..1);
        for outcome in [lost, foreign, twice, order, moved, changed] {
            outcome.expect_err("a violation");
        }
    }
}
