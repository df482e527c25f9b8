use std::net::SocketAddr;

use klamm_proto::v1::SubmitRequest;
use klamm_proto::v1::controller_client::ControllerClient;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::service::Routes;

use super::*;
use crate::rpc::{self, Credentials, Token};
use crate::tls::testing::{Authority, Issued, write_secret};

const NAME: &str = "demo.klamm";

fn credentials(tls: Option<RpcTls>) -> Credentials {
    let token = Token::new("a-token-for-tests-only").unwrap();
    Credentials::new(token, tls.map(Arc::new))
}

/// With a certificate for `name`, trusting `trusted`.
fn member(authority: &Authority, name: &str, trusted: &[&Authority]) -> Credentials {
    let dir = TempDir::new().unwrap();
    write_secret(dir.path(), &authority.issue(name), trusted);
    credentials(Some(RpcTls::from_dir(dir.path(), name).unwrap()))
}

/// A server without services.
async fn serve(credentials: &Credentials) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = rpc::incoming(listener, credentials);
    let server = rpc::server().add_routes(Routes::default());
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

/// Whether a call gets through to where services would be.
async fn reaches(address: SocketAddr, credentials: &Credentials) -> bool {
    let connection = rpc::connect(&address.to_string(), credentials).unwrap();
    let mut client = ControllerClient::new(connection);
    let answer = client.submit(SubmitRequest::default()).await;
    answer.unwrap_err().code() == Code::Unimplemented
}

/// Whether the server goes on with a peer that shows `identity` and believes the server.
async fn lets_in(address: SocketAddr, authority: &Authority, identity: Option<&Issued>) -> bool {
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect()
    };
    let chain: Vec<_> = certificates(&authority.pem);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            let chain = certificates(&identity.chain);
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp).await.unwrap();
    // The server's settings, or its alert.
    stream.read_u8().await.is_ok()
}

#[tokio::test]
async fn members_reach_each_other_by_any_address() {
    let authority = Authority::new("authority");
    let trusted = [&authority];
    let address = serve(&member(&authority, NAME, &trusted)).await;
    let other = member(&authority, NAME, &trusted);
    assert!(reaches(address, &other).await);
}

#[tokio::test]
async fn peers_without_a_certificate_of_the_cluster_are_refused() {
    let authority = Authority::new("authority");
    let server = member(&authority, NAME, &[&authority]);
    let address = serve(&server).await;
    let own = authority.issue(NAME);
    assert!(lets_in(address, &authority, Some(&own)).await);
    let same_authority = authority.issue("other.klamm");
    let same_name = Authority::new("authority").issue(NAME);
    for refused in [None, Some(&same_authority), Some(&same_name)] {
        assert!(!lets_in(address, &authority, refused).await);
    }
    assert_eq!(server.tls().unwrap().refused(), 3);
    let plaintext = credentials(None);
    assert!(!reaches(address, &plaintext).await);
}

#[tokio::test]
async fn servers_without_a_certificate_of_the_cluster_are_not_believed() {
    let authority = Authority::new("authority");
    let other = Authority::new("authority");
    let both = [&authority, &other];
    let member_of_cluster = member(&authority, NAME, &[&authority]);
    for server in [
        credentials(None),
        member(&authority, "other.klamm", &both),
        member(&other, NAME, &both),
    ] {
        let address = serve(&server).await;
        assert!(!reaches(address, &member_of_cluster).await);
    }
}

#[tokio::test]
async fn while_the_authority_is_replaced_members_trust_both() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = [&old, &new];
    let address = serve(&member(&old, NAME, &both)).await;
    let renewed = member(&new, NAME, &both);
    assert!(reaches(address, &renewed).await);
}

#[tokio::test]
async fn silent_peers_keep_nobody_out() {
    let authority = Authority::new("authority");
    let trusted = [&authority];
    let address = serve(&member(&authority, NAME, &trusted)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let other = member(&authority, NAME, &trusted);
    assert!(reaches(address, &other).await);
}

#[test]
fn a_broker_whose_own_certificate_others_would_refuse_does_not_start() {
    let authority = Authority::new("authority");
    let dir = TempDir::new().unwrap();
    write_secret(dir.path(), &authority.issue("other.klamm"), &[&authority]);
    let error = RpcTls::from_dir(dir.path(), NAME).err().unwrap();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}
