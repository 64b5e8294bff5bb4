//! The gRPC API with certificates, read-only and with a limit on calls.

use std::path::Path;

use anyhow::Result;
use harness::controller::Options;
use harness::fixture::private_fixture_with;
use harness::grpc::Clients;
use harness::grpc::controller::{CreatePartitionGroupRequest, PartitionGroupId, PartitionGroupSpec};
use harness::grpc::database::{DatabaseId, GetDatabasesRequest};
use harness::grpc::membership::JoinGroupRequest;
use harness::grpc::primitive::{CreatePrimitiveRequest, PrimitiveId};
use harness::paths;
use harness::pki::{Authority, Credential};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How a client of this authority dials, with a certificate of its own or without.
async fn dial(address: &str, authority: &Authority, own: Option<&Credential>) -> Result<Clients> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("127.0.0.1");
    if let Some(Credential::Certificate { certificate, key, .. }) = own {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let channel = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?;
    Ok(Clients::over(channel))
}

async fn answered(address: &str, authority: &Authority, own: Option<&Credential>) -> Result<()> {
    let request = GetDatabasesRequest { namespace: "default".to_owned() };
    dial(address, authority, own).await?.databases.get_databases(request).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    for file in ["grpc.crt", "grpc.key"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[tokio::test]
async fn clients_need_a_certificate_and_a_new_one_of_the_server_is_taken_in() {
    let dir = paths::state().join("tests/tls-certificates");
    let _ = std::fs::remove_dir_all(&dir);
    let [served, first, second, programs, strangers] =
        ["served", "first", "second", "programs", "strangers"].map(|name| dir.join(name));
    std::fs::create_dir_all(&served).unwrap();
    let authority = |at: &Path| Authority::new(at).unwrap();
    let (old, new) = (authority(&first), authority(&second));
    old.server("grpc", &["127.0.0.1"]).unwrap();
    new.server("grpc", &["127.0.0.1"]).unwrap();
    copy(&first, &served);
    let (ours, theirs) = (authority(&programs), authority(&strangers));
    let (program, stranger) = (ours.client("program", None).unwrap(), theirs.client("stranger", None).unwrap());

    let text = |path: &Path| path.display().to_string();
    let env = [
        ("ATOMIX_GRPC_TLS_CERT", text(&served.join("grpc.crt"))),
        ("ATOMIX_GRPC_TLS_KEY", text(&served.join("grpc.key"))),
        ("ATOMIX_GRPC_CLIENT_CA", text(&ours.certificate())),
        ("ATOMIX_GRPC_READ_ONLY", "true".to_owned()),
        ("ATOMIX_GRPC_CALLS_MAX", "3".to_owned()),
    ];
    let env = env.map(|(key, value)| (key.to_owned(), value)).to_vec();
    let fixture = private_fixture_with("api-tls", Options { env, ..Options::default() }).await;
    let address = fixture.controller.grpc();

    answered(&address, &old, Some(&program)).await.expect("a client with a certificate is served");
    assert!(answered(&address, &old, None).await.is_err(), "one without is not");
    assert!(answered(&address, &old, Some(&stranger)).await.is_err(), "nor one with a certificate of another authority");
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    if let Ok(channel) = plain {
        let request = GetDatabasesRequest::default();
        assert!(Clients::over(channel).databases.get_databases(request).await.is_err(), "nor one without TLS");
    }

    let mut clients = dial(&address, &old, Some(&program)).await.unwrap();
    let id = Some(PartitionGroupId { name: "x".to_owned(), namespace: "default".to_owned() });
    let request = CreatePartitionGroupRequest { id, spec: Some(PartitionGroupSpec::default()) };
    assert_eq!(clients.first.create_partition_group(request).await.unwrap_err().code(), Code::PermissionDenied);
    let database = Some(DatabaseId { name: "x".to_owned(), namespace: "default".to_owned() });
    let primitive = Some(PrimitiveId { name: "x".to_owned(), namespace: String::new() });
    let request = CreatePrimitiveRequest { database, primitive, r#type: 1 };
    assert_eq!(clients.primitives.create_primitive(request).await.unwrap_err().code(), Code::PermissionDenied);

    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(clients.membership.join_group(JoinGroupRequest::default()).await.unwrap());
    }
    let status = clients.membership.join_group(JoinGroupRequest::default()).await.map(drop).unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "3 calls go on at a time, which is the limit"));
    drop(streams);

    copy(&second, &served);
    harness::eventually::eventually(harness::fixture::SOON, "the new certificate is served", || async {
        Ok(match answered(&address, &new, Some(&program)).await {
            Ok(()) => harness::eventually::Eventually::Now(()),
            Err(error) => harness::eventually::Eventually::NotYet(format!("{error:#}")),
        })
    })
    .await
    .unwrap();
    assert!(answered(&address, &old, Some(&program)).await.is_err(), "and the old one no more");
}
