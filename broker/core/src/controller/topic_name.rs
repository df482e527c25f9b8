//! Kafka's rules for topic names.

use alloc::format;
use alloc::string::String;

use super::error::{CommandError, Failure};
use crate::metadata::Image;

/// Length of the longest topic name; with a partition it fits a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Whether a topic can have this name at all, be it taken or not.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    check_characters(name).is_ok()
}

/// Whether a new topic may have this name.
pub(super) fn check(image: &Image, name: &str) -> Result<(), Failure> {
    check_characters(name)?;
    if image.topic_ids.contains_key(name) {
        return Err(Failure::new(
            CommandError::TopicAlreadyExists,
            format!("topic {name:?} exists already"),
        ));
    }
    match colliding(image, name) {
        Some(other) => Err(Failure::new(
            CommandError::InvalidTopicName,
            format!("topic {name:?} collides with {other:?}: '.' and '_' are one in metric names"),
        )),
        None => Ok(()),
    }
}

fn check_characters(name: &str) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidTopicName, reason));
    if name.is_empty() || name == "." || name == ".." {
        return refuse(format!("a topic cannot be called {name:?}"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse(format!(
            "the topic name is longer than {TOPIC_NAME_BYTES_MAX} characters"
        ));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return refuse(format!(
            "topic name {name:?} has characters other than ASCII letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(())
}

fn colliding<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let canonical = |name: &str| name.replace('.', "_");
    let wanted = canonical(name);
    let mut names = image
        .topic_ids
        .keys()
        .filter(|other| other.len() == name.len());
    names
        .find(|other| canonical(other) == wanted)
        .map(|other| &**other)
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::TopicId;

    #[test]
    fn names_are_checked_as_kafka_does() {
        let mut image = Image::default();
        image.topic_ids.insert(Arc::from("a.b"), TopicId([1; 16]));
        let longest = "x".repeat(TOPIC_NAME_BYTES_MAX);
        let too_long = "x".repeat(TOPIC_NAME_BYTES_MAX + 1);
        let cases = [
            ("orders", None),
            ("Orders-2.eu_west", None),
            (longest.as_str(), None),
            ("", Some(CommandError::InvalidTopicName)),
            (".", Some(CommandError::InvalidTopicName)),
            ("..", Some(CommandError::InvalidTopicName)),
            ("a/b", Some(CommandError::InvalidTopicName)),
            ("ä", Some(CommandError::InvalidTopicName)),
            (too_long.as_str(), Some(CommandError::InvalidTopicName)),
            ("a_b", Some(CommandError::InvalidTopicName)),
            ("a.b", Some(CommandError::TopicAlreadyExists)),
            ("a-b", None),
        ];
        for (name, expected) in cases {
            let error = check(&image, name).err().map(|failure| failure.error());
            assert_eq!(error, expected, "{name}");
        }
    }
}
