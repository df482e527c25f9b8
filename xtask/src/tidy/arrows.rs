//! Which crate of the workspace may depend on which: the arrows of `ARCHITECTURE.md`.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A crate that is not named here may not be in the workspace.
const ALLOWED: &[(&str, &[&str])] = &[
    ("broker-core", &[]),
    ("broker-wire", &[]),
    ("klamm-proto", &[]),
    ("klamm-crds", &[]),
    ("klamm-placement", &[]),
    ("broker-log", &["broker-core", "broker-wire"]),
    (
        "broker-sim",
        &[
            "broker-core",
            "broker-wire",
            "broker-log",
            "klamm-placement",
        ],
    ),
    (
        "klamm-broker",
        &[
            "broker-core",
            "broker-wire",
            "broker-log",
            "klamm-proto",
            "klamm-placement",
        ],
    ),
    ("operator-plan", &["klamm-crds", "klamm-placement"]),
    ("operator-sim", &["operator-plan", "klamm-crds"]),
    (
        "klamm-operator",
        &[
            "operator-plan",
            "klamm-crds",
            "klamm-proto",
            "klamm-placement",
        ],
    ),
    ("klamm-e2e", &["klamm-crds", "klamm-proto"]),
    ("klamm-chaos", &["klamm-e2e", "klamm-proto"]),
    ("klamm-client", &["broker-wire"]),
    ("klamm-cli", &["klamm-client"]),
    ("klamm-bench", &["broker-wire"]),
    (
        "klamm-bench-instructions",
        &["broker-core", "broker-wire", "klamm-proto", "klamm-broker"],
    ),
    ("klamm-bench-runner", &["klamm-e2e"]),
    ("xtask", &[]),
];

/// Reads `cargo metadata`; dependencies of tests and build scripts count like any other.
pub(super) fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let names: Vec<_> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut violations = Vec::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(from, _)| *from == name) else {
            violations.push(format!(
                "crate {name}: not in the table of xtask/src/tidy/arrows.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"]
                .as_str()
                .context("a dependency without a name")?;
            if names.contains(&to) && !allowed.contains(&to) {
                violations.push(format!("crate {name}: must not depend on {to}"));
            }
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_arrow_that_is_not_allowed_is_reported() {
        let metadata = json!({"packages": [
            {"name": "broker-core", "dependencies": [{"name": "broker-wire"}, {"name": "prost"}]},
            {"name": "broker-wire", "dependencies": []},
            {"name": "broker-common", "dependencies": []},
        ]});
        let violations = super::check(&metadata).unwrap();
        assert_eq!(
            violations,
            [
                "crate broker-core: must not depend on broker-wire",
                "crate broker-common: not in the table of xtask/src/tidy/arrows.rs",
            ]
        );
    }
}
