use crate::metadata::{BrokerChange, Record, RegisterBroker};

use super::*;

const CONFIG: LivenessConfig = LivenessConfig {
    session_timeout: Duration::from_millis(9000),
    reconnect_grace: Duration::from_millis(1000),
    voters: BTreeSet::new(),
};
const ID: BrokerId = BrokerId(1);

fn registration(epoch: i64) -> Record {
    Record::RegisterBroker(RegisterBroker {
        broker_id: ID.0,
        broker_epoch: epoch,
        ..RegisterBroker::default()
    })
}

fn change(epoch: i64, fenced: Option<bool>, draining: Option<bool>) -> Record {
    let broker_id = ID.0;
    Record::BrokerChange(BrokerChange {
        broker_id,
        broker_epoch: epoch,
        fenced,
        draining,
        cordoned: None,
    })
}

fn image(records: &[Record]) -> Image {
    let mut image = Image::default();
    for record in records {
        image.apply(record).unwrap();
    }
    image
}

fn fenced() -> Image {
    image(&[registration(7)])
}

fn unfenced() -> Image {
    image(&[registration(7), change(7, Some(false), None)])
}

fn reference() -> BrokerRef {
    BrokerRef {
        broker_id: ID.0,
        broker_epoch: 7,
    }
}

fn heartbeat(offset: u64) -> Heartbeat {
    Heartbeat {
        broker: ID,
        epoch: BrokerEpoch(7),
        offset: Some(offset),
        wants_shutdown: false,
    }
}

#[test]
fn brokers_that_may_be_dead_are_silent() {
    let mut liveness = Liveness::new(CONFIG, Time(0), &unfenced(), Some(1));
    assert_eq!(liveness.silent(Time(0)), [ID], "no stream yet");
    liveness
        .heartbeat(Time(100), StreamId(1), heartbeat(1))
        .unwrap();
    assert_eq!(liveness.silent(Time(100)), []);
    assert_eq!(liveness.silent(Time(4600)), []);
    assert_eq!(liveness.silent(Time(4601)), [ID], "a heartbeat is missing");
    liveness
        .heartbeat(Time(3200), StreamId(1), heartbeat(1))
        .unwrap();
    liveness.stream_closed(Time(3300), ID, StreamId(1));
    assert_eq!(liveness.silent(Time(3300)), [ID], "the stream broke");
}

enum Event {
    Beat(u64),
    Leave(u64),
    Closed(u64),
}

/// Runs `events` on an unfenced broker's session from time 0 and returns when it is fenced.
fn fenced_at(events: &[(u64, Event)]) -> u64 {
    let image = unfenced();
    let mut liveness = Liveness::new(CONFIG, Time(0), &image, Some(10));
    let mut events = events.iter().peekable();
    for now in (0..60_000).step_by(100) {
        while let Some((_, event)) = events.next_if(|(at, _)| *at <= now) {
            let leaving = Heartbeat {
                wants_shutdown: true,
                ..heartbeat(10)
            };
            match event {
                Event::Beat(stream) => {
                    liveness
                        .heartbeat(Time(now), StreamId(*stream), heartbeat(10))
                        .unwrap();
                }
                Event::Leave(stream) => {
                    liveness
                        .heartbeat(Time(now), StreamId(*stream), leaving)
                        .unwrap();
                }
                Event::Closed(stream) => liveness.stream_closed(Time(now), ID, StreamId(*stream)),
            }
        }
        if liveness.tick(Time(now), &image) == [Command::FenceBroker(reference())] {
            return now;
        }
    }
    panic!("never fenced");
}

#[test]
fn silence_and_broken_streams_fence() {
    use Event::{Beat, Closed, Leave};
    type Case<'a> = (&'a str, &'a [(u64, Event)], u64);
    let cases: &[Case<'_>] = &[
        ("no stream to the new controller", &[], 2000),
        ("silent stream", &[(500, Beat(1))], 9500),
        (
            "later heartbeats count",
            &[(500, Beat(1)), (5000, Beat(1))],
            14_000,
        ),
        ("broken stream", &[(500, Beat(1)), (3000, Closed(1))], 4000),
        (
            "broken shortly before the time-out",
            &[(500, Beat(1)), (9000, Closed(1))],
            9500,
        ),
        (
            "new stream in time",
            &[(0, Beat(1)), (3000, Closed(1)), (3500, Beat(2))],
            12_500,
        ),
        (
            "the old stream's end is noticed after the new one's start",
            &[(0, Beat(1)), (3000, Beat(2)), (3500, Closed(1))],
            12_000,
        ),
        (
            "controlled shutdown",
            &[(0, Leave(1)), (3000, Closed(1))],
            3000,
        ),
    ];
    for (name, events, expected) in cases {
        assert_eq!(fenced_at(events), *expected, "{name}");
    }
}

fn unheard() -> Unheard {
    Unheard {
        id: ID,
        epoch: BrokerEpoch(7),
    }
}

#[test]
fn a_broker_whose_process_has_ended_is_fenced_at_once() {
    let mut liveness = Liveness::new(CONFIG, Time(0), &unfenced(), Some(10));
    assert_eq!(
        liveness.unheard(),
        [unheard()],
        "no stream to the new controller"
    );
    liveness
        .heartbeat(Time(0), StreamId(1), heartbeat(10))
        .unwrap();
    assert_eq!(liveness.unheard(), []);
    liveness.ended(Time(10), unheard());
    assert_eq!(
        liveness.tick(Time(10), &unfenced()),
        [],
        "it was heard meanwhile"
    );
    liveness.stream_closed(Time(20), ID, StreamId(1));
    assert_eq!(liveness.unheard(), [unheard()]);
    let successor = Unheard {
        epoch: BrokerEpoch(8),
        ..unheard()
    };
    liveness.ended(Time(20), successor);
    assert_eq!(liveness.tick(Time(20), &unfenced()), []);
    liveness.ended(Time(20), unheard());
    assert_eq!(
        liveness.tick(Time(20), &unfenced()),
        [Command::FenceBroker(reference())]
    );
    liveness.follow(Time(30), &fenced(), Some(11));
    assert_eq!(liveness.unheard(), [], "fenced brokers are not dialled");
}

#[test]
fn a_paused_broker_is_not_unfenced_before_it_knows_that_it_was_fenced() {
    let mut liveness = Liveness::new(CONFIG, Time(0), &unfenced(), Some(10));
    liveness
        .heartbeat(Time(0), StreamId(1), heartbeat(10))
        .unwrap();
    liveness.follow(Time(9000), &fenced(), Some(20));
    liveness
        .heartbeat(Time(9500), StreamId(1), heartbeat(10))
        .unwrap();
    assert_eq!(liveness.tick(Time(9500), &fenced()), []);
    liveness
        .heartbeat(Time(9600), StreamId(1), heartbeat(20))
        .unwrap();
    assert_eq!(
        liveness.tick(Time(9600), &fenced()),
        [Command::UnfenceBroker(reference())]
    );
}

#[test]
fn voters_find_a_new_controller_sooner() {
    let config = LivenessConfig {
        voters: BTreeSet::from([ID]),
        ..CONFIG
    };
    let liveness = Liveness::new(config, Time(0), &unfenced(), Some(10));
    assert_eq!(liveness.tick(Time(999), &unfenced()), []);
    assert_eq!(
        liveness.tick(Time(1000), &unfenced()),
        [Command::FenceBroker(reference())]
    );
}

#[test]
fn unfenced_once_caught_up_with_its_registration() {
    let image = fenced();
    let mut liveness = Liveness::new(CONFIG, Time(0), &Image::default(), Some(10));
    liveness.follow(Time(0), &image, Some(11));
    assert_eq!(liveness.tick(Time(100), &image), []);
    liveness
        .heartbeat(Time(200), StreamId(1), heartbeat(10))
        .unwrap();
    assert_eq!(liveness.tick(Time(200), &image), []);
    liveness
        .heartbeat(Time(300), StreamId(1), heartbeat(11))
        .unwrap();
    assert_eq!(
        liveness.tick(Time(300), &image),
        [Command::UnfenceBroker(reference())]
    );
    assert_eq!(liveness.tick(Time(300), &unfenced()), []);
}

#[test]
fn a_dead_broker_stays_fenced_until_it_is_heard_again() {
    let image = fenced();
    let mut liveness = Liveness::new(CONFIG, Time(0), &image, Some(10));
    liveness
        .heartbeat(Time(0), StreamId(1), heartbeat(10))
        .unwrap();
    assert_eq!(liveness.tick(Time(9000), &image), []);
    liveness
        .heartbeat(Time(20_000), StreamId(2), heartbeat(10))
        .unwrap();
    assert_eq!(
        liveness.tick(Time(20_000), &image),
        [Command::UnfenceBroker(reference())]
    );
}

#[test]
fn stale_registrations_and_streams_are_refused() {
    let mut liveness = Liveness::new(CONFIG, Time(0), &unfenced(), Some(10));
    let stale = Heartbeat {
        epoch: BrokerEpoch(6),
        ..heartbeat(10)
    };
    assert_eq!(
        liveness.heartbeat(Time(0), StreamId(1), stale),
        Err(StaleEpoch)
    );
    let unknown = Heartbeat {
        broker: BrokerId(2),
        ..heartbeat(10)
    };
    assert_eq!(
        liveness.heartbeat(Time(0), StreamId(1), unknown),
        Err(StaleEpoch)
    );
    liveness
        .heartbeat(Time(0), StreamId(2), heartbeat(10))
        .unwrap();
    assert_eq!(
        liveness.heartbeat(Time(0), StreamId(1), heartbeat(10)),
        Err(StaleEpoch)
    );

    let again = image(&[registration(7), registration(8)]);
    liveness.follow(Time(100), &again, Some(11));
    assert_eq!(
        liveness.heartbeat(Time(100), StreamId(2), heartbeat(10)),
        Err(StaleEpoch)
    );
    let renewed = Heartbeat {
        epoch: BrokerEpoch(8),
        ..heartbeat(11)
    };
    assert_eq!(liveness.heartbeat(Time(100), StreamId(3), renewed), Ok(()));
}

#[test]
fn shutdown_drains_until_no_leader_is_left() {
    let mut liveness = Liveness::new(CONFIG, Time(0), &unfenced(), Some(10));
    let leaving = Heartbeat {
        wants_shutdown: true,
        ..heartbeat(10)
    };
    liveness.heartbeat(Time(0), StreamId(1), leaving).unwrap();
    let drain = [Command::DrainBroker(reference())];
    assert_eq!(liveness.tick(Time(0), &unfenced()), drain);
    let draining = image(&[registration(7), change(7, Some(false), Some(true))]);
    assert_eq!(liveness.tick(Time(0), &draining), [], "it leads nothing");
    assert_eq!(
        liveness.tick(Time(0), &fenced()),
        [],
        "not unfenced any more"
    );
}
