//! Renders the Helm chart with each optional part on and off: no cluster is needed, and no custom
//! resource of anybody else is asked for unless its part is on.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::kind::tools;
use crate::paths;
use crate::process::{announce, output, run_quiet};

/// The oldest Kubernetes that the chart is for.
const KUBE_VERSION: &str = "--kube-version=1.31.0";
const RELEASE: &str = "klamm";

/// Something that is off by default: the value that turns it on, and the objects that it adds.
const PARTS: [(&str, &[&str]); 3] = [
    (
        "metrics.podMonitor.enabled",
        &["PodMonitor/klamm-brokers", "PodMonitor/klamm-operator"],
    ),
    ("metrics.prometheusRule.enabled", &["PrometheusRule/klamm"]),
    ("metrics.dashboard.enabled", &["ConfigMap/klamm-dashboard"]),
];

/// Objects by kind and name.
type Objects = BTreeMap<String, Value>;

/// Lints the chart and checks what it renders.
pub(crate) fn check() -> Result<()> {
    announce("rendering the Helm chart");
    let everything = PARTS.map(|(value, _)| format!("{value}=true"));
    run_quiet(helm(&["lint"], &everything)?.arg("--strict"))?;
    for scope in ["clusterWide=false", "clusterWide=true"] {
        let plain = render(&[scope.to_owned()])?;
        for (value, added) in PARTS {
            let mut objects = render(&[scope.to_owned(), format!("{value}=true")])?;
            objects.retain(|name, _| !plain.contains_key(name));
            let names: Vec<_> = objects.keys().collect();
            ensure!(
                names == added,
                "with {value}, {scope} the chart adds {names:?}, not {added:?}"
            );
            check_content(&objects).with_context(|| format!("with {value}, {scope}"))?;
        }
    }
    Ok(())
}

/// Alerts and dashboard come through as they are, braces included.
fn check_content(objects: &Objects) -> Result<()> {
    let file = |name: &str| {
        let path = paths::repository().join("charts/klamm/files").join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    if let Some(rule) = objects.get("PrometheusRule/klamm") {
        let alerts: Value = serde_yaml::from_str(&file("alerts.yaml")?)?;
        ensure!(
            rule["spec"] == alerts,
            "the rules are not those of alerts.yaml"
        );
    }
    if let Some(config_map) = objects.get("ConfigMap/klamm-dashboard") {
        let shipped = config_map["data"]["klamm.json"].as_str();
        let shipped: Value = serde_json::from_str(shipped.context("no dashboard")?)?;
        let dashboard: Value = serde_json::from_str(&file("dashboard.json")?)?;
        ensure!(shipped == dashboard, "the dashboard is not dashboard.json");
        let label = &config_map["metadata"]["labels"]["grafana_dashboard"];
        ensure!(
            label == "1",
            "Grafana's sidecar does not find the dashboard"
        );
    }
    Ok(())
}

fn render(values: &[String]) -> Result<Objects> {
    objects(&output(&mut helm(&["template", RELEASE], values)?)?)
}

/// `helm` with a command for the chart with these values.
fn helm(command: &[&str], values: &[String]) -> Result<Command> {
    let mut helm = Command::new(tools::HELM.ensure()?);
    helm.args(command)
        .arg(paths::repository().join("charts/klamm"))
        .arg(KUBE_VERSION)
        .args(values.iter().map(|value| format!("--set={value}")));
    Ok(helm)
}

fn objects(rendered: &str) -> Result<Objects> {
    let mut objects = Objects::new();
    for document in rendered.split("\n---\n") {
        let object: Value = serde_yaml::from_str(document)
            .with_context(|| format!("the chart renders no YAML:\n{document}"))?;
        if object.is_null() {
            continue;
        }
        let kind = object["kind"]
            .as_str()
            .context("an object without a kind")?;
        let name = object["metadata"]["name"].as_str();
        let name = format!("{kind}/{}", name.context("an object without a name")?);
        objects.insert(name, object);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_apart_by_kind_and_name() {
        let rendered = "---\n# Source: a\nkind: A\nmetadata:\n  name: x\n---\n# Source: b\n---\nkind: B\nmetadata: {name: x}\n";
        let objects = objects(rendered).unwrap();
        assert_eq!(objects.keys().collect::<Vec<_>>(), ["A/x", "B/x"]);
        assert!(super::objects("metadata: {name: x}\n").is_err());
    }
}
