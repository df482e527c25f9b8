//! One text for one configuration, so that an outdated broker is told from an up-to-date one.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::BrokerConfig;

/// Enough to tell the few configurations of one cluster apart.
const HASH_BYTES: usize = 8;

impl BrokerConfig {
    /// The first 16 hexadecimal digits of the SHA-256 of what was set explicitly, in the file or
    /// over it: a line `key=value` for each key, in the order of the keys.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for (key, value) in self.properties() {
            hasher.update(format!("{key}={value}\n"));
        }
        let mut text = String::with_capacity(2 * HASH_BYTES);
        for byte in &hasher.finalize()[..HASH_BYTES] {
            write!(text, "{byte:02x}").expect("a String takes all text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::Properties;
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_sorted_lines() {
        let text = "klamm.cluster.id=c\nklamm.rpc.token.file=/tmp/token\n\
                    controller.quorum.voters=1@127.0.0.1:9095\nnode.id=1\n\
                    listeners=PLAINTEXT://127.0.0.1:9092";
        let mut lines: Vec<_> = text.lines().collect();
        let config = |lines: &[&str]| {
            let pairs = lines.iter().filter_map(|line| line.split_once('='));
            let properties: Properties = pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            BrokerConfig::new(properties).unwrap().hash()
        };
        // printf of the sorted lines | sha256sum
        assert_eq!(config(&lines), "1c879abf54ba106b");
        lines.push("num.partitions=2");
        assert_ne!(config(&lines), "1c879abf54ba106b");
    }
}
