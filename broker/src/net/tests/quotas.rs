//! Clients with quotas.

use broker_wire::Float64;
use broker_wire::message::alter_client_quotas::{
    AlterClientQuotasRequestEntity, AlterClientQuotasRequestEntry, AlterClientQuotasRequestOp,
};
use broker_wire::message::create_topics::CreatableTopic;
use broker_wire::message::{
    AlterClientQuotasRequest, CreateTopicsRequest, DescribeClientQuotasRequest,
};

use super::*;

const VERSION: i16 = 1;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;

/// A quota for every client id, `None` removes it.
fn quota(key: &'static str, value: Option<f64>) -> AlterClientQuotasRequest {
    quota_of("client-id", key, value)
}

fn quota_of(
    entity_type: &'static str,
    key: &'static str,
    value: Option<f64>,
) -> AlterClientQuotasRequest {
    AlterClientQuotasRequest {
        entries: vec![AlterClientQuotasRequestEntry {
            entity: vec![AlterClientQuotasRequestEntity {
                entity_type: entity_type.into(),
                entity_name: None,
            }],
            ops: vec![AlterClientQuotasRequestOp {
                key: key.into(),
                value: Float64::from(value.unwrap_or_default()),
                remove: value.is_none(),
            }],
        }],
        validate_only: false,
    }
}

async fn set(client: &mut Client, key: &'static str, value: Option<f64>) -> ErrorCode {
    let response = client.call(VERSION, &quota(key, value)).await;
    response.entries[0].error_code
}

async fn described(client: &mut Client) -> Vec<(String, f64)> {
    let request = DescribeClientQuotasRequest::default();
    let response = client.call(VERSION, &request).await;
    let entries = response.entries.unwrap();
    let values = entries.iter().flat_map(|entry| &entry.values);
    let values = values.map(|value| (value.key.as_str().to_owned(), value.value.get()));
    values.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_quota_is_answered_and_then_not_listened_to() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(
        set(&mut client, "producer_byte_rate", Some(10_000.0)).await,
        ErrorCode::None
    );
    assert_eq!(
        set(&mut client, "consumer_byte_rate", Some(5_000.0)).await,
        ErrorCode::None
    );
    assert_eq!(
        described(&mut client).await,
        [
            ("producer_byte_rate".to_owned(), 10_000.0),
            ("consumer_byte_rate".to_owned(), 5_000.0)
        ]
    );

    let start = Instant::now();
    let request = produce(1, TOPIC, batch(&[0; 20_000]));
    let produced = client.call(PRODUCE_VERSION, &request).await;
    let throttle = Duration::from_millis(produced.throttle_time_ms as u64);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(3)).contains(&throttle),
        "{throttle:?}"
    );
    let fetched = client.call(FETCH_VERSION, &fetch(0, 0)).await;
    assert!(
        start.elapsed() >= throttle,
        "the connection was listened to"
    );
    let throttle = Duration::from_millis(fetched.throttle_time_ms as u64);
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(5)).contains(&throttle),
        "{throttle:?}"
    );
    assert_eq!(broker.metrics.throttled_requests.get(), 2);

    let mut other = Client::connect(&broker).await;
    assert_eq!(
        set(&mut other, "producer_byte_rate", None).await,
        ErrorCode::None
    );
    let produced = other.call(PRODUCE_VERSION, &request).await;
    assert_eq!(produced.throttle_time_ms, 0, "the quota is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_brings_no_more_than_the_quota_allows_in_a_while() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    for _ in 0..4 {
        client
            .call(PRODUCE_VERSION, &produce(1, TOPIC, batch(&[0; 5_000])))
            .await;
    }
    assert_eq!(
        set(&mut client, "consumer_byte_rate", Some(1_000.0)).await,
        ErrorCode::None
    );
    let request = FetchRequest {
        min_bytes: 1_000_000,
        ..fetch(0, 10_000)
    };
    let start = Instant::now();
    let (error, _, records) = fetched(client.call(FETCH_VERSION, &request).await);
    assert_eq!(error, ErrorCode::None);
    assert!(
        (5_000..=10_000).contains(&records.len()),
        "{}",
        records.len()
    );
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "waited for more than it may get"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_that_make_no_sense_are_refused() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    for (key, value) in [
        ("requests_per_second", 50.0),
        ("connection_creation_rate", 50.0),
        ("request_percentage", -1.0),
        ("producer_byte_rate", 0.0),
        ("producer_byte_rate", 1.5),
        ("producer_byte_rate", f64::NAN),
    ] {
        let refused = set(&mut client, key, Some(value)).await;
        assert_eq!(refused, ErrorCode::InvalidRequest, "{key}={value}");
    }
    let mut valid_only = quota("producer_byte_rate", Some(1.0));
    valid_only.validate_only = true;
    let response = client.call(VERSION, &valid_only).await;
    assert_eq!(response.entries[0].error_code, ErrorCode::None);
    assert!(described(&mut client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_for_the_time_that_its_requests_keep_threads_busy() {
    const ONE_NANOSECOND_A_SECOND: f64 = 1e-7;
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let key = "request_percentage";
    let altered = set(&mut client, key, Some(ONE_NANOSECOND_A_SECOND)).await;
    assert_eq!(altered, ErrorCode::None);

    let mut other = Client::connect(&broker).await;
    let described = other
        .call(VERSION, &DescribeClientQuotasRequest::default())
        .await;
    let entries = described.entries.unwrap();
    assert_eq!(entries[0].values[0].value.get(), ONE_NANOSECOND_A_SECOND);
    assert_eq!(described.throttle_time_ms, 60_000, "the most at a time");

    let mut producer = Client::connect(&broker).await;
    let request = produce(1, TOPIC, batch(&[0; 100]));
    let produced = producer.call(PRODUCE_VERSION, &request).await;
    assert_eq!(produced.throttle_time_ms, 60_000);
    assert!(broker.metrics.throttled_requests.get() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_beyond_the_quota_are_refused() {
    const CREATE_VERSION: i16 = 7;
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let altered = set(&mut client, "controller_mutation_rate", Some(0.5)).await;
    assert_eq!(altered, ErrorCode::None);
    let topic = |name: &'static str| CreatableTopic {
        name: name.into(),
        num_partitions: 5,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic("first"), topic("second")],
        timeout_ms: 10_000,
        validate_only: false,
    };
    let response = client.call(CREATE_VERSION, &request).await;
    let result = |name: &str| {
        let topics = &response.topics;
        topics.iter().find(|topic| topic.name == name).unwrap()
    };
    assert_eq!(result("first").error_code, ErrorCode::None);
    let refused = result("second");
    assert_eq!(refused.error_code, ErrorCode::ThrottlingQuotaExceeded);
    let message = refused.error_message.as_deref().unwrap();
    assert!(message.contains("controller_mutation_rate"), "{message}");
    assert!((5_000..=10_000).contains(&response.throttle_time_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_quota_of_their_address_are_closed() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let request = quota_of("ip", "connection_creation_rate", Some(1.0));
    let response = client.call(VERSION, &request).await;
    assert_eq!(response.entries[0].error_code, ErrorCode::None);
    let request = encode_request(0, 7, None, &ApiVersionsRequest::default());
    let mut refused = 0;
    for _ in 0..5 {
        let mut another = Client::connect(&broker).await;
        another.send(&request).await;
        refused += usize::from(another.is_closed().await);
    }
    assert!((1..5).contains(&refused), "{refused}");
    assert_eq!(broker.metrics.connections_throttled.get(), refused as u64);
}
