//! The chart ships the definitions that the operator was built with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn chart_ships_these_definitions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/klamm/files/crds.yaml");
    let generated = klamm_crds::definitions_yaml();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap();
    assert!(
        shipped == generated,
        "{} is out of date: UPDATE=1 cargo test -p klamm-crds --test chart",
        path.display()
    );
}
