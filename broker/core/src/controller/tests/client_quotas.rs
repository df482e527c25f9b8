use super::*;
use crate::client_quota::{ClientLimit, QuotaKind, Sharers};
use crate::metadata::{QuotaEntity, QuotaEntityName};

fn named(name: &str) -> Option<QuotaEntityName> {
    let name = (name != "*").then(|| name.to_string());
    Some(QuotaEntityName { name })
}

fn client(id: &str) -> QuotaEntity {
    QuotaEntity {
        client_id: named(id),
        ..QuotaEntity::default()
    }
}

fn address(ip: &str) -> QuotaEntity {
    QuotaEntity {
        ip: named(ip),
        ..QuotaEntity::default()
    }
}

fn change(entity: QuotaEntity, key: &str, value: Option<u64>) -> AlterClientQuota {
    let key = key.to_string();
    AlterClientQuota {
        entity,
        ops: vec![QuotaOp { key, value }],
    }
}

fn alter(cluster: &mut Cluster, entries: Vec<AlterClientQuota>) -> Vec<Option<CommandError>> {
    let command = AlterClientQuotas {
        entries,
        validate_only: false,
    };
    match cluster.submit(Command::AlterClientQuotas(command)) {
        Response::AlterClientQuotas(response) => {
            let entries = response.entries.into_iter();
            let failures = entries.map(|entry| entry.failure);
            let errors = failures.map(|failure| Some(failure?.error()));
            errors.collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn quotas_are_set_removed_and_kept_in_snapshots() {
    let mut cluster = Cluster::with_brokers(1);
    let key = QuotaKind::Produce.key();
    let both = QuotaEntity {
        user: named("*"),
        client_id: named("app"),
        ip: None,
    };
    let entries = vec![
        change(client("app"), key, Some(7)),
        change(both.clone(), key, Some(8)),
        change(client("*"), QuotaKind::Fetch.key(), Some(9)),
        change(
            address("::1"),
            QuotaKind::ConnectionCreation.key(),
            Some(10),
        ),
    ];
    assert_eq!(alter(&mut cluster, entries), [None; 4]);
    let limit = |cluster: &Cluster, kind| cluster.image.client_quotas.limit(kind, "u", "app");
    let found = limit(&cluster, QuotaKind::Produce).unwrap();
    assert_eq!(found.per_second, 8);
    assert_eq!(
        limit(&cluster, QuotaKind::Fetch),
        Some(ClientLimit {
            sharers: Sharers {
                client_id: Some("app".to_string()),
                ..Sharers::default()
            },
            per_second: 9
        })
    );
    let mut restored = Image::default();
    for record in cluster.image.to_records() {
        restored.apply(&record).unwrap();
    }
    assert_eq!(restored, cluster.image);

    assert_eq!(alter(&mut cluster, vec![change(both, key, None)]), [None]);
    let found = limit(&cluster, QuotaKind::Produce).unwrap();
    assert_eq!(found.per_second, 7);
}

#[test]
fn what_makes_no_sense_is_refused_on_its_own() {
    let mut cluster = Cluster::with_brokers(1);
    let key = QuotaKind::Produce.key();
    let invalid = Some(CommandError::InvalidRequest);
    let long = "x".repeat(QUOTA_ENTITY_NAME_BYTES_MAX + 1);
    let entries = vec![
        change(QuotaEntity::default(), key, Some(1)),
        change(client(""), key, Some(1)),
        change(client(&long), key, Some(1)),
        change(client("a"), "leader.replication.throttled.rate", Some(1)),
        change(client("b"), key, Some(0)),
        change(client("c"), key, Some(1)),
        change(client("c"), key, Some(2)),
        change(client("d"), QuotaKind::ConnectionCreation.key(), Some(1)),
        change(address("10.0.0.1"), key, Some(1)),
        change(
            address("example.org"),
            QuotaKind::ConnectionCreation.key(),
            Some(1),
        ),
        change(
            QuotaEntity {
                user: named("u"),
                ..address("10.0.0.1")
            },
            key,
            Some(1),
        ),
    ];
    let errors = alter(&mut cluster, entries);
    let mut refused = [invalid; 11];
    refused[5] = None;
    assert_eq!(errors, refused);
    assert_eq!(cluster.image.client_quotas.len(), 1);

    let command = AlterClientQuotas {
        entries: vec![change(client("d"), key, Some(1))],
        validate_only: true,
    };
    cluster.submit(Command::AlterClientQuotas(command));
    assert_eq!(cluster.image.client_quotas.len(), 1, "only validated");
}

#[test]
fn the_number_of_entities_is_bounded() {
    let mut cluster = Cluster::with_brokers(1);
    let key = QuotaKind::Fetch.key();
    let ids = (0..CLIENT_QUOTAS_MAX).map(|id| id.to_string());
    let entries = ids.map(|id| change(client(&id), key, Some(1))).collect();
    assert!(alter(&mut cluster, entries).iter().all(Option::is_none));
    let one_more = change(client("one more"), key, Some(1));
    let known = change(client("7"), key, Some(2));
    assert_eq!(
        alter(&mut cluster, vec![one_more, known]),
        [Some(CommandError::LimitExceeded), None]
    );
}

#[test]
fn what_changes_nothing_is_not_written() {
    let mut cluster = Cluster::with_brokers(1);
    let key = QuotaKind::Produce.key();
    alter(&mut cluster, vec![change(client("a"), key, Some(1))]);
    let again = AlterClientQuotas {
        entries: vec![
            change(client("a"), key, Some(1)),
            change(client("nobody"), key, None),
        ],
        validate_only: false,
    };
    let decision = cluster.decide(&Command::AlterClientQuotas(again));
    assert_eq!(decision.records, []);
}
