//! What administrators are told about rules of access and credentials, of which there are none.

use broker_wire::message::create_acls::AclCreation;
use broker_wire::message::delete_acls::DeleteAclsFilter;
use broker_wire::message::describe_user_scram_credentials::UserName;
use broker_wire::message::{
    CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeUserScramCredentialsRequest,
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_access_are_refused_in_every_version_without_an_authorizer() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    for version in 1..=3 {
        let described = client.call(version, &DescribeAclsRequest::default()).await;
        assert_eq!(described.error_code, ErrorCode::SecurityDisabled);
        assert!(described.error_message.is_some() && described.resources.is_empty());
        let create = CreateAclsRequest {
            creations: vec![AclCreation::default(), AclCreation::default()],
        };
        let created = client.call(version, &create).await.results;
        let codes = created.iter().map(|result| result.error_code);
        assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::SecurityDisabled; 2]);
        let delete = DeleteAclsRequest {
            filters: vec![DeleteAclsFilter::default()],
        };
        let deleted = client.call(version, &delete).await.filter_results;
        let codes = deleted.iter().map(|result| result.error_code);
        assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::SecurityDisabled]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_user_has_scram_credentials() {
    let broker = TestBroker::start(&[]).await;
    let mut client = Client::connect(&broker).await;
    let all = DescribeUserScramCredentialsRequest::default();
    let described = client.call(0, &all).await;
    assert_eq!(described.error_code, ErrorCode::None);
    assert!(described.results.is_empty());
    let named = |name: &'static str| UserName { name: name.into() };
    let some = DescribeUserScramCredentialsRequest {
        users: Some(vec![named("ann"), named("bob")]),
    };
    let described = client.call(0, &some).await.results;
    let found = described
        .iter()
        .map(|result| (result.user.as_str(), result.error_code));
    let expected = ["ann", "bob"].map(|user| (user, ErrorCode::ResourceNotFound));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}
