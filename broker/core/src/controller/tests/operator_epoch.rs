use super::*;

fn from_operator(operator_epoch: u64, command: &Command) -> Command {
    Command::FromOperator(FromOperator {
        operator_epoch,
        command: command.to_bytes(),
    })
}

fn cordon(cordoned: bool) -> Command {
    Command::CordonBroker(CordonBroker {
        broker_id: 1,
        cordoned,
    })
}

#[test]
fn an_operator_that_was_replaced_changes_nothing() {
    let mut cluster = Cluster::with_brokers(1);
    let is_cordoned = |cluster: &Cluster| cluster.image.brokers[&BrokerId(1)].cordoned;
    cluster.submit(from_operator(3, &cordon(true)));
    assert!(is_cordoned(&cluster));
    let take_over = Command::FromOperator(FromOperator {
        operator_epoch: 5,
        command: Vec::new(),
    });
    assert_eq!(failure(&cluster.submit(take_over)), None);
    let stale = cluster.submit(from_operator(4, &cordon(false)));
    assert_eq!(failure(&stale), Some(CommandError::StaleOperatorEpoch));
    assert!(is_cordoned(&cluster));
    cluster.submit(from_operator(5, &cordon(false)));
    assert!(!is_cordoned(&cluster));
    cluster.submit(cordon(true));
    assert!(is_cordoned(&cluster), "people have no epoch");

    let mut restored = Image::default();
    for record in cluster.image.to_records() {
        restored.apply(&record).unwrap();
    }
    assert_eq!(restored, cluster.image);
}

#[test]
fn an_operators_command_is_not_wrapped_twice() {
    let mut cluster = Cluster::with_brokers(1);
    let twice = from_operator(1, &from_operator(2, &cordon(true)));
    let refused = cluster.submit(twice);
    assert_eq!(failure(&refused), Some(CommandError::InvalidRequest));
    let malformed = Command::FromOperator(FromOperator {
        operator_epoch: 1,
        command: vec![0xff],
    });
    let refused = cluster.submit(malformed);
    assert_eq!(failure(&refused), Some(CommandError::InvalidRequest));
}
