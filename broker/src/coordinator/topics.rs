//! The cluster's topics as groups of the consumer protocol see them.

use std::sync::Arc;

use broker_core::TopicId;
use broker_core::group::{ID_BYTES_MAX, Topics};
use broker_core::metadata::{Image, TopicImage};
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

/// Memory that a compiled regular expression may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Why a regular expression cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegexError {
    #[error("regular expressions have at most {} bytes", ID_BYTES_MAX)]
    TooLong,
    #[error(transparent)]
    Invalid(#[from] regex::Error),
}

/// Numbers what is looked at: as long as topics and their partition counts are the same, so is the
/// number, whatever else changes in the cluster.
#[derive(Default)]
pub(super) struct ImageVersions(Mutex<Option<(Arc<Image>, u64)>>);

impl ImageVersions {
    pub(super) fn topics(&self, image: Arc<Image>) -> ImageTopics {
        let mut latest = self.0.lock();
        let version = match &*latest {
            Some((known, version)) if has_same_topics(known, &image) => *version,
            Some((_, version)) => version + 1,
            None => 1,
        };
        *latest = Some((Arc::clone(&image), version));
        ImageTopics { image, version }
    }
}

fn has_same_topics(known: &Arc<Image>, image: &Arc<Image>) -> bool {
    let is_same = |known: &TopicImage, topic: &TopicImage| {
        known.id == topic.id && known.partitions.len() == topic.partitions.len()
    };
    Arc::ptr_eq(known, image)
        || (known.topics.len() == image.topics.len()
            && known
                .topics
                .values()
                .zip(image.topics.values())
                .all(|(known, topic)| Arc::ptr_eq(known, topic) || is_same(known, topic)))
}

/// The topics of an image.
pub(super) struct ImageTopics {
    image: Arc<Image>,
    version: u64,
}

impl ImageTopics {
    pub(super) fn name(&self, id: TopicId) -> Option<&str> {
        self.image.topics.get(&id).map(|topic| &*topic.name)
    }
}

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        let topic = self.image.topic_by_name(name)?;
        Some((topic.id, u32::try_from(topic.partitions.len()).ok()?))
    }

    fn matching(&self, regex: &str) -> Vec<String> {
        let Ok(regex) = compile(regex) else {
            return Vec::new();
        };
        let names = self.image.topics.values().map(|topic| &*topic.name);
        let matching = names.filter(|name| regex.is_match(name));
        matching.map(str::to_owned).collect()
    }
}

/// A regular expression that matches whole names.
///
/// # Errors
/// [`RegexError`].
pub(super) fn compile(regex: &str) -> Result<Regex, RegexError> {
    if regex.len() > ID_BYTES_MAX {
        return Err(RegexError::TooLong);
    }
    let build = |regex: &str| {
        RegexBuilder::new(regex)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build()
    };
    // By itself first: parentheses that do not match must not become those around it.
    build(regex)?;
    Ok(build(&format!("^(?:{regex})$"))?)
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Partition, Record, Topic};

    use super::*;

    fn image(topics: &[(&str, i32)]) -> Arc<Image> {
        let mut image = Image::default();
        for (number, (name, partition_count)) in (1..).zip(topics) {
            let topic_id = TopicId([number; 16]).into();
            let name = (*name).to_owned();
            image
                .apply(&Record::Topic(Topic { topic_id, name }))
                .unwrap();
            for partition in 0..*partition_count {
                let state = Partition {
                    topic_id,
                    partition,
                    ..Partition::default()
                };
                image.apply(&Record::Partition(state)).unwrap();
            }
        }
        Arc::new(image)
    }

    fn matching(regex: &str) -> Vec<String> {
        let image = image(&[("orders", 1), ("reorders", 1), ("__consumer_offsets", 1)]);
        ImageVersions::default().topics(image).matching(regex)
    }

    #[test]
    fn regular_expressions_match_whole_names() {
        assert_eq!(matching("orders"), ["orders"]);
        assert_eq!(matching("^orders$"), ["orders"]);
        assert_eq!(matching(".*orders"), ["orders", "reorders"]);
        assert_eq!(matching("x|orders"), ["orders"]);
        assert!(matching("order").is_empty());
    }

    #[test]
    fn regular_expressions_match_internal_topics_too() {
        let all = ["orders", "reorders", "__consumer_offsets"];
        assert_eq!(matching(".*"), all);
        assert_eq!(matching("orders|__consumer_offsets"), ["orders", all[2]]);
    }

    #[test]
    fn regular_expressions_that_are_none_or_too_large_are_refused() {
        for regex in ["(", "a)(b", "*", r"\w{1000}{1000}"] {
            assert!(
                matches!(compile(regex), Err(RegexError::Invalid(_))),
                "{regex}"
            );
        }
        let long = "a".repeat(ID_BYTES_MAX + 1);
        assert!(matches!(compile(&long), Err(RegexError::TooLong)));
    }

    #[test]
    fn only_changes_of_topics_make_another_version() {
        let versions = ImageVersions::default();
        let version = |topics: &[(&str, i32)]| versions.topics(image(topics)).version();
        let first = version(&[("a", 1), ("b", 2)]);
        assert_eq!(version(&[("a", 1), ("b", 2)]), first);
        let grown = version(&[("a", 1), ("b", 3)]);
        assert!(grown > first);
        assert!(version(&[("a", 1)]) > grown);
    }
}
