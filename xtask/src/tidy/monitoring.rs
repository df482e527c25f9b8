//! Alerts and the dashboard name only metrics and labels that exist: those in the tables of
//! `docs/monitoring.md`, which tests of broker and operator compare with what they expose. The page
//! lists every alert, and every alert says what to do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::promql::{Names, names};
use super::source::SourceFile;

const PAGE: &str = "docs/monitoring.md";
const ALERTS: &str = "charts/klamm/files/alerts.yaml";
const DASHBOARD: &str = "charts/klamm/files/dashboard.json";

/// Labels of what is scraped, as the chart's PodMonitor sets them, and that of histograms' buckets.
const TARGET_LABELS: [&str; 5] = ["broker_id", "klamm_cluster", "le", "namespace", "pool"];
const ANNOTATIONS: [&str; 3] = ["summary", "description", "runbook"];

pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut text = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        if file.is_none() {
            violations.push(format!("{path}: missing"));
        }
        file.map(|file| file.text.as_str())
    };
    let (Some(page), Some(alerts), Some(dashboard)) = (text(PAGE), text(ALERTS), text(DASHBOARD))
    else {
        return violations;
    };
    let page = Page::read(page);
    match serde_yaml::from_str::<Value>(alerts) {
        Ok(alerts) => violations.extend(page.check_alerts(&alerts)),
        Err(error) => violations.push(format!("{ALERTS}: {error}")),
    }
    match serde_json::from_str::<Value>(dashboard) {
        Ok(dashboard) => violations.extend(page.check_dashboard(&dashboard)),
        Err(error) => violations.push(format!("{DASHBOARD}: {error}")),
    }
    violations
}

/// What the tables of the page list.
struct Page {
    /// As queries name them.
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
    /// With their severities.
    alerts: BTreeMap<String, String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self {
            metrics: BTreeSet::new(),
            labels: TARGET_LABELS.map(str::to_owned).into(),
            alerts: BTreeMap::new(),
        };
        for line in text.lines() {
            let cells = line.strip_prefix("| ").unwrap_or_default().split(" | ");
            let cells: Vec<_> = cells.map(str::trim).collect();
            let [name, kind, labels, _] = cells[..] else {
                continue;
            };
            let name = name.trim_matches('`');
            let series: &[&str] = match kind {
                "counter" | "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ if name.starts_with("Klamm") => {
                    page.alerts.insert(name.to_owned(), kind.to_owned());
                    continue;
                }
                _ => continue,
            };
            let series = series.iter().map(|suffix| format!("{name}{suffix}"));
            page.metrics.extend(series);
            let labels = labels.split(", ").map(|label| label.trim_matches('`'));
            let labels = labels.filter(|label| !label.is_empty());
            page.labels.extend(labels.map(str::to_owned));
        }
        page
    }

    fn check_alerts(&self, alerts: &Value) -> Vec<String> {
        let mut violations = Vec::new();
        let mut found = BTreeMap::new();
        for rule in array(&alerts["groups"]).flat_map(|group| array(&group["rules"])) {
            let alert = text(&rule["alert"]);
            let place = format!("{ALERTS}: {alert}");
            for annotation in ANNOTATIONS {
                if text(&rule["annotations"][annotation]).is_empty() {
                    violations.push(format!("{place}: no {annotation}"));
                }
            }
            violations.extend(self.check_names(&place, &names(text(&rule["expr"]))));
            let severity = text(&rule["labels"]["severity"]).to_owned();
            found.insert(alert.to_owned(), severity);
        }
        if found != self.alerts {
            violations.push(format!(
                "{PAGE}: lists the alerts {:?}, while {ALERTS} has {found:?}",
                self.alerts
            ));
        }
        violations
    }

    fn check_dashboard(&self, dashboard: &Value) -> Vec<String> {
        let mut violations = Vec::new();
        let variables = array(&dashboard["templating"]["list"]);
        for variable in variables.filter(|variable| variable["type"] == "query") {
            // label_values(metric, label)
            let query = text(&variable["definition"]);
            let (metric, label) = query.rsplit_once(',').unwrap_or((query, ""));
            let mut named = names(metric);
            let label = label.trim().trim_end_matches(')');
            named.labels.insert(label.to_owned());
            let place = format!("{DASHBOARD}: {}", text(&variable["name"]));
            violations.extend(self.check_names(&place, &named));
        }
        for panel in array(&dashboard["panels"]) {
            let place = format!("{DASHBOARD}: {}", text(&panel["title"]));
            for target in array(&panel["targets"]) {
                violations.extend(self.check_names(&place, &names(text(&target["expr"]))));
            }
        }
        violations
    }

    fn check_names(&self, place: &str, named: &Names) -> Vec<String> {
        let unknown = |kind: &str, named: &BTreeSet<String>, known: &BTreeSet<String>| {
            let unknown = named.difference(known);
            let tell = |name| format!("{place}: {kind} {name} is not in the tables of {PAGE}");
            unknown.map(tell).collect::<Vec<_>>()
        };
        let mut violations = unknown("metric", &named.metrics, &self.metrics);
        violations.extend(unknown("label", &named.labels, &self.labels));
        if named.metrics.is_empty() {
            violations.push(format!("{place}: a query without a metric"));
        }
        violations
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "\
| alert | severity | meaning | what to do |
| --- | --- | --- | --- |
| `KlammX` | warning | m | d |

| metric | type | labels | meaning |
| --- | --- | --- | --- |
| `klamm_x` | gauge | `dir` | m |
| `klamm_y_seconds` | histogram |  | m |
";
    const RULES: &str = r#"
groups:
  - rules:
      - alert: KlammX
        expr: sum by (namespace) (klamm_x{dir="a"}) > 0
        labels: {severity: warning}
        annotations: {summary: s, description: d, runbook: r}
"#;
    const PANELS: &str = r#"{
  "templating": {"list": [{"type": "query", "name": "v", "definition": "label_values(klamm_x, pool)"}]},
  "panels": [{"title": "P", "targets": [{"expr": "rate(klamm_y_seconds_sum[5m])"}]}]
}
"#;

    fn checked(page: &str, alerts: &str, dashboard: &str) -> Vec<String> {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&[
            file(PAGE, page),
            file(ALERTS, alerts),
            file(DASHBOARD, dashboard),
        ])
    }

    #[test]
    fn what_is_listed_may_be_named() {
        assert_eq!(checked(TABLES, RULES, PANELS), [""; 0]);
    }

    #[test]
    fn a_metric_or_label_that_nobody_exposes_is_reported() {
        let cases = [
            (
                RULES.replace("klamm_x{", "klamm_z{"),
                PANELS.to_owned(),
                format!("{ALERTS}: KlammX: metric klamm_z is not in the tables of {PAGE}"),
            ),
            (
                RULES.replace("dir=", "disk="),
                PANELS.to_owned(),
                format!("{ALERTS}: KlammX: label disk is not in the tables of {PAGE}"),
            ),
            (
                RULES.to_owned(),
                PANELS.replace("seconds_sum", "seconds"),
                format!("{DASHBOARD}: P: metric klamm_y_seconds is not in the tables of {PAGE}"),
            ),
            (
                RULES.to_owned(),
                PANELS.replace("pool", "rack"),
                format!("{DASHBOARD}: v: label rack is not in the tables of {PAGE}"),
            ),
            (
                RULES.replace("runbook: r", "runbook: ''"),
                PANELS.to_owned(),
                format!("{ALERTS}: KlammX: no runbook"),
            ),
        ];
        for (alerts, dashboard, violation) in cases {
            assert_eq!(checked(TABLES, &alerts, &dashboard), [violation]);
        }
    }

    #[test]
    fn an_alert_that_the_page_does_not_list_is_reported() {
        let renamed = RULES.replace("KlammX", "KlammY");
        let violations = checked(TABLES, &renamed, PANELS);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].starts_with(PAGE), "{violations:?}");
    }
}
