//! The properties file format and the order in which sources override each other.

use std::path::Path;

use super::{ConfigError, Properties, keys, tls};

/// Reads a properties file: `key=value` or `key: value` lines, `#` and `!` comments, a backslash at
/// the end continues a line.
///
/// # Errors
/// [`ConfigError`] naming file and line.
pub(super) fn read_file(path: &Path) -> Result<Properties, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let mut properties = Properties::new();
    let mut pending = String::new();
    for (number, raw) in text.lines().enumerate() {
        let line = raw.trim_start();
        if pending.is_empty() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        if let Some(head) = line.strip_suffix('\\') {
            pending.push_str(head);
            continue;
        }
        pending.push_str(line);
        let complete = std::mem::take(&mut pending);
        let Some((key, value)) = complete.split_once(['=', ':']) else {
            return Err(ConfigError::Syntax {
                path: path.to_owned(),
                line: number + 1,
                text: complete,
            });
        };
        properties.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(properties)
}

/// Adds `key=value` overrides.
///
/// # Errors
/// [`ConfigError::Override`] for text without `=`.
pub(super) fn add_overrides(
    properties: &mut Properties,
    overrides: &[String],
) -> Result<(), ConfigError> {
    for text in overrides {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| ConfigError::Override(text.clone()))?;
        properties.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(())
}

/// Checks every key and value against the table.
///
/// # Errors
/// The first unknown key or bad value.
pub(super) fn check(properties: &Properties) -> Result<(), ConfigError> {
    for (key, value) in properties {
        if let Some(remedy) = tls::remedy(key, value) {
            return Err(ConfigError::Refused {
                key: key.clone(),
                remedy,
            });
        }
        let name = tls::without_listener(key);
        let Some(known) = keys::broker_key(name) else {
            return Err(ConfigError::UnknownKey {
                key: key.clone(),
                suggestion: keys::closest_broker_key(name),
            });
        };
        known
            .kind
            .check(value)
            .map_err(|reason| ConfigError::bad(key, value, reason))?;
    }
    Ok(())
}
