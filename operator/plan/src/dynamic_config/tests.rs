use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;
use crate::observed::Admin;
use crate::testing;
use crate::validate::validate;

const FILE: &str = "a=1\nb=1\nlisteners=x\n";

/// A broker that started with [`FILE`], and a spec with these settings.
fn scene(config: &[(&str, &str)]) -> (Validated, Observed) {
    let mut observed = testing::observed();
    let data = BTreeMap::from([("v".to_owned(), FILE.to_owned())]);
    observed.config_map = Some(ConfigMap {
        data: Some(data),
        ..ConfigMap::default()
    });
    let source = json!({ "configMap": { "name": "c", "items": [{ "key": "v", "path": "p" }] } });
    let set = json!({
        "metadata": { "name": "demo-main-0" },
        "spec": {
            "selector": {},
            "template": { "spec": {
                "containers": [],
                "volumes": [{ "name": "config", "projected": { "sources": [source] } }],
            } },
        },
    });
    let set: StatefulSet = serde_json::from_value(set).unwrap();
    observed.stateful_sets = vec![set];
    observed.admin = Admin::Answered(testing::healthy(1));
    let mut valid = validate(&testing::cluster(), &observed.defaults).unwrap();
    valid.config = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    (valid, observed)
}

fn file_of(valid: &Validated) -> String {
    let lines = valid.config.iter();
    let lines: String = lines
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    format!("{lines}listeners=x\n")
}

/// The plan, with answers to what is asked first.
fn planned(
    (valid, mut observed): (Validated, Observed),
    managed: &[&str],
    live: &[(&str, &str)],
    judge: fn(&str) -> KeyVerdict,
) -> (ConfigPlan, bool) {
    if let Admin::Answered(facts) = &mut observed.admin {
        let live = live
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        facts.dynamic_config = live.collect();
    }
    let managed: Vec<_> = managed.iter().map(|key| (*key).to_owned()).collect();
    let wanted = file_of(&valid);
    let properties = to_validate(&valid, &wanted, &managed, &observed);
    let verdicts = properties.into_keys().map(|key| {
        let verdict = judge(&key);
        (key, verdict)
    });
    observed.answers.config = Some(ConfigVerdicts::Known(verdicts.collect()));
    let plan = plan(&valid, &wanted, &managed, &observed);
    let restarts = plan.version("demo-main-0", &wanted) != FILE;
    (plan, restarts)
}

fn dynamic(_: &str) -> KeyVerdict {
    KeyVerdict::Dynamic
}

fn only_a_is_dynamic(key: &str) -> KeyVerdict {
    if key == "a" {
        KeyVerdict::Dynamic
    } else {
        KeyVerdict::NeedsRestart
    }
}

fn set(pairs: &[(&str, &str)]) -> Option<ConfigChange> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    Some(ConfigChange {
        set: pairs.collect(),
        reset: Vec::new(),
    })
}

#[test]
fn nothing_changed_asks_and_changes_nothing() {
    let (valid, observed) = scene(&[("a", "1"), ("b", "1")]);
    assert!(to_validate(&valid, &file_of(&valid), &[], &observed).is_empty());
    let (plan, restarts) = planned((valid, observed), &[], &[], dynamic);
    assert!(!restarts);
    assert_eq!(plan.change, None);
    assert!(plan.managed.is_empty());
}

#[test]
fn what_running_brokers_take_restarts_none() {
    let (plan, restarts) = planned(scene(&[("a", "2"), ("b", "1")]), &[], &[], dynamic);
    assert!(!restarts);
    assert_eq!(plan.change, set(&[("a", "2")]));
    assert_eq!(plan.managed, ["a"]);
    let again = scene(&[("a", "2"), ("b", "1")]);
    let (plan, restarts) = planned(again, &["a"], &[("a", "2")], dynamic);
    assert!(!restarts);
    assert_eq!(plan.change, None);
}

#[test]
fn one_key_that_needs_a_restart_restarts_and_the_others_are_set_at_once() {
    let changed = scene(&[("a", "2"), ("b", "2")]);
    let (plan, restarts) = planned(changed, &[], &[], only_a_is_dynamic);
    assert!(restarts);
    assert_eq!(plan.change, set(&[("a", "2")]));
}

#[test]
fn what_was_set_while_brokers_ran_is_taken_back_without_a_restart() {
    let reverted = scene(&[("a", "1"), ("b", "1")]);
    let (plan, restarts) = planned(reverted, &["a", "c"], &[("a", "2"), ("c", "3")], dynamic);
    assert!(!restarts);
    let mut expected = set(&[("a", "1")]).unwrap();
    expected.reset = vec!["c".to_owned()];
    assert_eq!(plan.change, Some(expected));
    assert_eq!(plan.managed, ["a", "c"]);
    let later = scene(&[("a", "1"), ("b", "1")]);
    let (plan, _) = planned(later, &["a", "c"], &[("a", "1")], dynamic);
    assert_eq!((plan.change, plan.managed), (None, vec!["a".to_owned()]));
}

#[test]
fn what_a_file_sets_is_taken_back_by_a_restart() {
    let (_, restarts) = planned(scene(&[("a", "1")]), &[], &[], dynamic);
    assert!(restarts);
}

#[test]
fn what_others_set_against_the_spec_is_set_right_and_the_rest_is_left() {
    let same = scene(&[("a", "1"), ("b", "1")]);
    let (plan, _) = planned(same, &[], &[("a", "9"), ("other", "1")], dynamic);
    assert_eq!(plan.change, set(&[("a", "1")]));
}

#[test]
fn what_the_brokers_refuse_changes_nothing_and_says_what_to_correct() {
    let wrong = scene(&[("a", "2"), ("b", "x")]);
    let judge = |key: &str| match key {
        "b" => KeyVerdict::Refused("b=x: must be a whole number".to_owned()),
        _ => KeyVerdict::Dynamic,
    };
    let (plan, restarts) = planned(wrong, &[], &[], judge);
    assert!(!restarts);
    assert_eq!(plan.change, None);
    let problem = plan.problem.unwrap();
    assert_eq!(problem.reason, "InvalidConfig");
    assert!(problem.message.contains("must be a whole number"));
    assert_eq!(plan.kept.len(), 1);
    assert_eq!(
        plan.fallback.as_deref(),
        Some(FILE),
        "new brokers start as well"
    );
}

#[test]
fn without_an_answer_the_wanted_configuration_waits_for_a_restart() {
    let (valid, mut observed) = scene(&[("a", "2"), ("b", "1")]);
    observed.admin = Admin::Unreachable("nobody".to_owned());
    let wanted = file_of(&valid);
    let plan = plan(&valid, &wanted, &["a".to_owned()], &observed);
    assert_eq!(plan.version("demo-main-0", &wanted), wanted);
    assert_eq!((plan.change, plan.managed), (None, vec!["a".to_owned()]));
}
