//! Every call with any request: it is answered, or refused with a message that names the field to correct, and nothing but names
//! reaches the API server.

use std::collections::BTreeMap;

use harness::controller::USER;
use harness::fixture::shared_fixture;
use harness::grpc::{controller as one, database as two, membership as peers, primitive};
use harness::seed::{self, Dice};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use prost::Message;
use prost_types::Any;

use super::field_names::is_word;
use super::grpc_descriptors::described;
use super::http2_frames::{Wire, database_and_pod, framed};

/// Requests that are sent to each method.
const REQUESTS: usize = 250;
// Codes of gRPC, as numbers on the wire (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const INTERNAL: i32 = 13;

/// Names that mean something here, that lead elsewhere, and any.
fn text() -> impl Strategy<Value = String> {
    let known = ["db", "any-request", "", "..", "../db", "a/b", "A", "ä", "a?b", "a%2fb"];
    let known = proptest::sample::select(known.to_vec()).prop_map(str::to_owned);
    prop_oneof![6 => known, 1 => "[-./%a-zA-Z0-9]{0,70}", 1 => any::<String>(), 1 => "ä{500,520}"]
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![-1..12i32, any::<i32>()]
}

/// A request of the four that write, with anything in its fields. Others read it as theirs: their ids stand at the same place.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let id = || proptest::option::weighted(0.9, (text(), text()));
    let fields = (id(), id(), text(), number(), any::<Vec<u8>>(), 0..4u8);
    fields.prop_map(|(one, other, text, number, value, which)| {
        let group = one.clone().map(|(name, namespace)| one::PartitionGroupId { name, namespace });
        let database = other.clone().map(|(name, namespace)| one::DatabaseId { name, namespace });
        match which {
            0 => {
                let protocol = (!value.is_empty()).then_some(Any { type_url: text, value });
                let partitions = number.cast_unsigned();
                let spec = other.map(|_| one::PartitionGroupSpec { partitions, partition_size: partitions, protocol });
                one::CreatePartitionGroupRequest { id: group, spec }.encode_to_vec()
            }
            1 => {
                let cluster = Some(one::ClusterId { id: number, database_id: database });
                let partition_id = Some(one::PartitionId { partition: number, group, cluster });
                one::PartitionElectionRequest { partition_id, member: text }.encode_to_vec()
            }
            2 => {
                let id = one.map(|(name, namespace)| peers::MemberId { name, namespace });
                let group_id = other.map(|(name, namespace)| peers::GroupId { name, namespace });
                let member = Some(peers::Member { id, host: text, port: number });
                peers::JoinGroupRequest { member, group_id }.encode_to_vec()
            }
            _ => {
                let database = one.map(|(name, namespace)| two::DatabaseId { name, namespace });
                let primitive = other.map(|(name, namespace)| primitive::PrimitiveId { name, namespace });
                primitive::CreatePrimitiveRequest { database, primitive, r#type: number }.encode_to_vec()
            }
        }
    })
}

/// The same with bytes changed, and bytes of no message.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let damaged = (written(), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![damaged, proptest::collection::vec(any::<u8>(), 0..64)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_is_answered_or_refused() {
    let ns = shared_fixture().await.namespace("any-request").await;
    ns.create_ready(&database_and_pod()).await;
    let controller = &ns.fixture().controller;
    let wire = Wire::dial(&controller.grpc()).await;
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed::seed()), ..Config::default() });
    let mark = ns.fixture().mark().await;
    let mut refused = 0;
    let ((methods, messages), dice) = (described(), Dice::new(seed::seed()));
    let mut nameless = BTreeMap::new();
    for at in 0..REQUESTS {
        let strategy = if at % 3 == 0 { written().boxed() } else { damaged().boxed() };
        let shared = strategy.new_tree(&mut runner).expect("a value can be had").current();
        for described in &methods {
            let method = &described.path;
            let bytes = if at % 3 == 1 { messages.encoded(&described.request, &dice) } else { shared.clone() };
            let stream = method.ends_with("JoinGroup") || method.ends_with("EnterElection");
            let limit = [("grpc-timeout", "200m")]; // for what would go on for ever
            let answer = wire.send(method, if stream { &limit } else { &[] }, framed(&bytes)).await;
            let status = answer.status().await;
            let fits = status.as_ref().is_some_and(|(code, message)| match *code {
                0 | INVALID_ARGUMENT | NOT_FOUND | ALREADY_EXISTS | PERMISSION_DENIED => true,
                DEADLINE_EXCEEDED => stream,
                INTERNAL => message.contains("decode"), // bytes that are no such message
                _ => false,
            });
            assert!(fits, "{method} {bytes:?}: {status:?}\n{}", controller.log_tail(10));
            refused += usize::from(status.as_ref().is_some_and(|(code, _)| *code != 0));
            if let Some((INVALID_ARGUMENT, message)) = status
                && !messages.fields(&described.request).iter().any(|field| is_word(&message, field))
            {
                nameless.insert(message, method);
            }
        }
    }
    assert!(refused > REQUESTS, "{refused} refused"); // else the requests were of no use
    assert!(nameless.is_empty(), "these refusals name no field of their request: {nameless:#?}");
    assert!(!controller.log_tail(usize::MAX).contains("panicked"), "a call panicked: {}", controller.log_tail(40));
    for request in ns.fixture().requests_since(mark).await.iter().filter(|request| request.user == USER) {
        let path = request.uri.split('?').next().unwrap_or_default();
        assert!(path.split('/').all(|part| !part.contains(['%', ' ']) && part != ".."), "{}", request.uri);
    }
}
