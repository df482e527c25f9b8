//! Clients that speak TLS, and those that get it wrong.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::handshake::HANDSHAKES_MAX;
use super::*;
use crate::tls::provider;
use crate::tls::testing::{Authority, Issued, write_secret};

/// A broker whose listener has TLS.
struct Secured {
    broker: TestBroker,
    authority: Authority,
    _dir: TempDir,
}

impl Secured {
    async fn start(more: &[(&str, &str)]) -> Self {
        Self::start_impatient(more, PATIENCE).await
    }

    async fn start_impatient(more: &[(&str, &str)], patience: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new("authority");
        write_secret(dir.path(), &authority.issue("localhost"), &[&authority]);
        let location = dir.path().to_str().unwrap();
        let mut settings = vec![
            ("listener.security.protocol.map", "PLAINTEXT:SSL"),
            ("ssl.keystore.location", location),
            ("ssl.truststore.location", location),
        ];
        settings.extend(more);
        Self {
            broker: TestBroker::start_with(&settings, Some(patience)).await,
            authority,
            _dir: dir,
        }
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        self.shake_hands(None, rustls::ALL_VERSIONS).await.unwrap()
    }

    async fn shake_hands(
        &self,
        identity: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&self.authority.pem));
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Issued { chain, key }) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(certificates(chain), key)
                    .unwrap()
            }
        };
        let tcp = TcpStream::connect(self.broker.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Client(connector.connect(name, tcp).await?))
    }

    /// Whether a client that shows `identity` is answered.
    async fn serves(&self, identity: Option<&Issued>) -> bool {
        let Ok(mut client) = self.shake_hands(identity, rustls::ALL_VERSIONS).await else {
            return false;
        };
        let request = encode_request(0, 7, None, &ApiVersionsRequest::default());
        client.0.write_all(&request).await.is_ok() && client.0.read_u32().await.is_ok()
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let read: Result<_, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_through_tls_byte_for_byte() {
    let secured = Secured::start(&[]).await;
    for (offset, version) in rustls::ALL_VERSIONS.iter().enumerate() {
        let mut client = secured.shake_hands(None, &[version]).await.unwrap();
        let value: Vec<u8> = noise(1).take(700_000).collect();
        let sent = batch(&value);
        let response = client.call(9, &produce(-1, TOPIC, sent.clone())).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.base_offset, offset as i64);
        let (error, _, records) = fetched(client.call(12, &fetch(offset as i64, 0)).await);
        assert_eq!(error, ErrorCode::None);
        // All but base offset and leader epoch, which the broker assigned.
        assert_eq!(records[16..], sent[16..], "{version:?}");
    }
    assert_eq!(secured.broker.metrics.tls_handshakes.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_pipelined_through_tls_are_answered_in_order() {
    let secured = Secured::start(&[]).await;
    let mut client = secured.client().await;
    let mut requests = Vec::new();
    for correlation_id in 0..300 {
        let request = match correlation_id % 3 {
            0 => encode_request(9, correlation_id, None, &produce(-1, TOPIC, batch(b"a"))),
            1 => encode_request(5, correlation_id, None, &MetadataRequest::default()),
            _ => encode_request(5, correlation_id, None, &ListOffsetsRequest::default()),
        };
        requests.extend_from_slice(&request);
    }
    client.send(&requests).await;
    for correlation_id in 0..300_i32 {
        let frame = client.receive().await.unwrap();
        assert_eq!(frame[..4], correlation_id.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_through_tls_and_does_not_read_is_closed() {
    let secured = Secured::start_impatient(&[], Duration::from_millis(500)).await;
    let mut client = secured.client().await;
    let request = encode_request(5, 7, None, &MetadataRequest::default());
    let written = async {
        let mut written = 0;
        while client.0.write_all(&request).await.is_ok() {
            written += request.len();
        }
        written
    };
    let written = timeout(PATIENCE, written).await.expect("closed");
    assert!(written < 64 << 20, "{written}");
    assert_eq!(secured.broker.metrics.timed_out.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_protocol_closes_the_connection_and_is_counted() {
    let secured = Secured::start(&[]).await;
    let mut plain = Client::connect(&secured.broker).await;
    plain
        .send(&encode_request(0, 7, None, &ApiVersionsRequest::default()))
        .await;
    assert!(plain.is_closed().await);
    assert_eq!(secured.broker.metrics.wrong_protocol.get(), 1);
    assert!(secured.serves(None).await);

    let plaintext = Secured::start(&[("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT")]);
    let plaintext = plaintext.await;
    assert!(!plaintext.serves(None).await);
    assert_eq!(plaintext.broker.metrics.wrong_protocol.get(), 1);
    assert_serves(&plaintext.broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_handshake_closes_the_connection() {
    let secured = Secured::start(&[]).await;
    let metrics = &secured.broker.metrics;
    let rounds = 50;
    for seed in 0..rounds {
        let mut client = Client::connect(&secured.broker).await;
        let garbage = noise(seed).take(20_000);
        let garbage: Vec<u8> = [0x16].into_iter().chain(garbage).collect();
        // It may be closed before all of it was sent.
        let _ = client.0.write_all(&garbage).await;
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, client.0.read_to_end(&mut rest))
            .await
            .unwrap();
    }
    until("each is counted", || {
        metrics.tls_handshakes_failed.get() == rounds
    })
    .await;
    assert!(secured.serves(None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stall_are_closed_and_keep_nobody_out() {
    let limit = Duration::from_secs(1);
    let secured = Secured::start_impatient(&[], limit).await;
    let mut stalled = Vec::new();
    for number in 0..2 * HANDSHAKES_MAX {
        let mut client = Client::connect(&secured.broker).await;
        if number % 2 == 0 {
            client.send(&[0x16, 3, 1]).await;
        }
        stalled.push(client);
    }
    // It has no more time than they have, and may need another turn.
    let until_served = async { while !secured.serves(None).await {} };
    timeout(PATIENCE, until_served).await.expect("served");
    for client in &mut stalled {
        assert!(client.is_closed().await);
    }
    let metrics = &secured.broker.metrics;
    let count = stalled.len() as u64;
    until("each is counted", || {
        metrics.tls_handshakes_failed.get() >= count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_the_certificate_that_the_listener_asks_for() {
    let stranger = Authority::new("authority").issue("client");
    for (setting, without) in [("none", true), ("requested", true), ("required", false)] {
        let secured = Secured::start(&[("ssl.client.auth", setting)]).await;
        let own = secured.authority.issue("client");
        assert!(secured.serves(Some(&own)).await, "{setting}");
        assert_eq!(secured.serves(None).await, without, "{setting}");
        // Nobody looks at it unless asked to.
        assert_eq!(secured.serves(Some(&stranger)).await, setting == "none");
    }
}
