//! What clients did and saw, as `e2e/clients/python/history.py` and `e2e/clients/java/History.java`
//! print it: one event a line.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

/// A message: who sent it, and its number, which rises with every message of that producer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) producer: Arc<str>,
    pub(crate) number: u64,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.producer, self.number)
    }
}

/// Something that a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A producer sends
    Invoked(Partition, Message),
    /// … and has its acknowledgement, with the offset
    Acknowledged(Partition, i64, Message),
    /// … or has it without an offset: the broker had the message already
    AcknowledgedBefore(Partition, Message),
    /// … or gave up: the message may be there or not
    Unknown(Partition, Message),
    /// The producer can't go on
    Fatal,
    /// A member got a partition, whose committed offset it read at the time of the event
    Assigned(Partition, i64),
    /// A member got partitions and does not know where it begins
    Begins,
    /// A member has no partitions any more
    Revoked,
    /// A member committed an offset
    Committed(Partition, i64),
    /// A member's commit failed: it may have happened or not
    Uncommitted,
    /// A member was not told where its group was, and asks again
    Unanswered,
    /// A consumer's position was reset
    Reset,
    /// A copier's group has committed this offset of the source: all before it is copied
    Copied(Partition, i64),
    /// A copier aborted a transaction, on purpose or after an error
    Aborted,
    /// A copier's producer could not go on, and another one took its transactional id; its
    /// transaction was committed or aborted
    Replaced,
    Read(Partition, i64, Message),
    /// A message that nobody sent like this
    Torn(Partition, i64),
    /// The end of a partition when a reader looked, before it read
    Extent(Partition, i64),
    /// The client stops, with so much left undone
    End(u64),
}

impl What {
    /// The partition that it concerns, and the offset if it has one.
    pub(crate) fn place(&self) -> Option<(&Partition, Option<i64>)> {
        match self {
            Self::Invoked(partition, _)
            | Self::AcknowledgedBefore(partition, _)
            | Self::Unknown(partition, _) => Some((partition, None)),
            Self::Acknowledged(partition, offset, _)
            | Self::Read(partition, offset, _)
            | Self::Assigned(partition, offset)
            | Self::Committed(partition, offset)
            | Self::Copied(partition, offset)
            | Self::Torn(partition, offset)
            | Self::Extent(partition, offset) => Some((partition, Some(*offset))),
            _ => None,
        }
    }

    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Invoked(_, message)
            | Self::AcknowledgedBefore(_, message)
            | Self::Unknown(_, message)
            | Self::Acknowledged(_, _, message)
            | Self::Read(_, _, message) => Some(message),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at_us: u64,
    /// Index in [`History::clients`]
    pub(crate) client: usize,
    pub(crate) what: What,
    /// As the client printed it
    pub(crate) line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    /// Of the consumer group
    Member,
    /// Reads what was sent, whole topics, after everything has healed
    Reader,
    /// Copies one of the topics in transactions, as a member of a group of copiers
    Copier,
    /// Reads copies as they are committed
    Watcher,
    /// Reads all copies, after everything has healed
    CopyReader,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// The events of all clients of a round; those of one client are in its order.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) clients: Vec<Client>,
    pub(crate) events: Vec<Event>,
    names: HashSet<Arc<str>>,
}

impl History {
    /// Adds a client; its events carry the index that is returned.
    pub(crate) fn add_client(&mut self, name: &str, role: Role) -> usize {
        let name = name.to_owned();
        self.clients.push(Client { name, role });
        self.clients.len() - 1
    }

    /// Adds an event as the client printed it.
    ///
    /// # Errors
    /// On a line that no client prints.
    pub(crate) fn add_line(&mut self, client: usize, line: &str) -> Result<()> {
        let malformed = || format!("{} printed {line:?}", self.clients[client].name);
        let (verb, rest) = line.split_once(' ').with_context(malformed)?;
        let fields: Vec<_> = rest.split(' ').collect();
        let (at_us, fields) = fields.split_first().with_context(malformed)?;
        let at_us = at_us.parse().with_context(malformed)?;
        let what = self.parse(verb, fields).with_context(|| line.to_owned())?;
        self.events.push(Event {
            at_us,
            client,
            what,
            line: line.to_owned(),
        });
        Ok(())
    }

    fn parse(&mut self, verb: &str, fields: &[&str]) -> Result<What> {
        Ok(match (verb, fields) {
            ("invoke", [topic, partition, producer, number]) => What::Invoked(
                self.partition(topic, partition)?,
                self.message(producer, number)?,
            ),
            ("ok", [topic, partition, "None", producer, number]) => What::AcknowledgedBefore(
                self.partition(topic, partition)?,
                self.message(producer, number)?,
            ),
            ("ok", [topic, partition, offset, producer, number]) => What::Acknowledged(
                self.partition(topic, partition)?,
                offset.parse()?,
                self.message(producer, number)?,
            ),
            ("info", [topic, partition, producer, number, ..]) => What::Unknown(
                self.partition(topic, partition)?,
                self.message(producer, number)?,
            ),
            ("read", [topic, partition, offset, producer, number]) => What::Read(
                self.partition(topic, partition)?,
                offset.parse()?,
                self.message(producer, number)?,
            ),
            (verb, [topic, partition, offset, ..]) if OF_OFFSET.contains(&verb) => {
                let partition = self.partition(topic, partition)?;
                let offset = offset.parse()?;
                match verb {
                    "assigned" => What::Assigned(partition, offset),
                    "commit" => What::Committed(partition, offset),
                    "copied" => What::Copied(partition, offset),
                    "torn" => What::Torn(partition, offset),
                    _ => What::Extent(partition, offset),
                }
            }
            ("fatal", _) => What::Fatal,
            ("begins", _) => What::Begins,
            ("revoked", _) => What::Revoked,
            ("uncommitted", _) => What::Uncommitted,
            ("unanswered", _) => What::Unanswered,
            ("reset", _) => What::Reset,
            ("aborted", _) => What::Aborted,
            ("replaced", _) => What::Replaced,
            ("end", [left]) => What::End(left.parse()?),
            _ => bail!("not an event"),
        })
    }

    fn partition(&mut self, topic: &str, number: &str) -> Result<Partition> {
        Ok(Partition {
            topic: self.name(topic),
            number: number.parse()?,
        })
    }

    fn message(&mut self, producer: &str, number: &str) -> Result<Message> {
        Ok(Message {
            producer: self.name(producer),
            number: number.parse()?,
        })
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The events of clients of one role, each with the index of its client.
    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &Event> {
        self.events
            .iter()
            .filter(move |event| self.clients[event.client].role == role)
    }
}

/// Verbs with a topic, a partition and an offset.
const OF_OFFSET: [&str; 5] = ["assigned", "commit", "copied", "torn", "extent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event() {
        let mut history = History::default();
        let producer = history.add_client("p0", Role::Producer);
        history
            .add_line(producer, "ok 7 cached 2 40 p0.0 9")
            .unwrap();
        let event = &history.events[0];
        assert_eq!(event.at_us, 7);
        let place = event
            .what
            .place()
            .map(|(p, offset)| (p.to_string(), offset));
        assert_eq!(place, Some(("cached-2".to_owned(), Some(40))));
        assert_eq!(event.what.message().unwrap().to_string(), "p0.0#9");
        for line in [
            "",
            "ok",
            "ok 7 cached 2",
            "ok x cached 2 40 p0.0 9",
            "made up 7",
        ] {
            assert!(history.add_line(producer, line).is_err(), "{line:?}");
        }
    }
}
