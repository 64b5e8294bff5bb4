//! Every message against bytes worked out by hand from the numbers of its fields, and every decoder against any bytes. What is kept
//! encoded ([`Encoded`]) is compared on the wire, by the cluster tests.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use proptest::prelude::*;
use prost_types::Any;

use super::controller as first;
use super::*;
use atomix_model::names;

// A tag is the field's number times 8, plus 0 for a varint or 2 for what has a length
// (https://protobuf.dev/programming-guides/encoding).
const ID: &[u8] = b"\x0a\x01a\x12\x01n"; // 1: name, 2: namespace: the same in every generation
const ENDPOINT: &[u8] = b"\x0a\x01h\x10\xae\x2c"; // 1: host, 2: port: 5678 = 44 * 128 + 46
const SPEC: &[u8] = b"\x08\x03\x10\xac\x02\x1a\x07\x0a\x01t\x12\x02\x08\x01"; // 300 = 2 * 128 + 44; 1: type URL, 2: value
const CLUSTER: &[u8] = b"\x08\x02\x12\x06\x0a\x01a\x12\x01n";

/// The message, and no other, is these bytes.
#[track_caller]
fn is<M: Message + Default + PartialEq + Debug>(message: M, bytes: &[&[u8]]) {
    let bytes = bytes.concat();
    assert_eq!(message.encode_to_vec(), bytes, "{message:?} as bytes");
    assert_eq!(M::decode(&bytes[..]).as_ref(), Ok(&message));
}

fn group() -> Option<first::PartitionGroupId> {
    Some(first::PartitionGroupId { name: "a".into(), namespace: "n".into() })
}

fn first_database() -> Option<first::DatabaseId> {
    Some(first::DatabaseId { name: "a".into(), namespace: "n".into() })
}

fn spec() -> Option<first::PartitionGroupSpec> {
    let protocol = Some(Any { type_url: "t".into(), value: vec![8, 1] });
    Some(first::PartitionGroupSpec { partitions: 3, partition_size: 300, protocol })
}

fn database() -> Option<database::DatabaseId> {
    Some(database::DatabaseId { name: "a".into(), namespace: "n".into() })
}

fn primitive() -> Option<primitive::PrimitiveId> {
    Some(primitive::PrimitiveId { name: "p".into(), namespace: "s".into() })
}

#[test]
fn databases_and_groups_of_the_first_generation_are_these_bytes() {
    is(first_database().unwrap(), &[ID]);
    is(group().unwrap(), &[ID]);
    is(first::ClusterId { id: 2, database_id: first_database() }, &[CLUSTER]);
    let endpoint = || first::PartitionEndpoint { host: "h".into(), port: 5678 };
    is(endpoint(), &[ENDPOINT]);
    let partition = || first::Partition { partition_id: 1, endpoints: vec![endpoint()] };
    is(partition(), &[b"\x08\x01\x12\x06", ENDPOINT]);
    is(
        first::Database { id: first_database(), partitions: vec![partition(), partition()] },
        &[b"\x0a\x06", ID, b"\x12\x0a\x08\x01\x12\x06", ENDPOINT, b"\x12\x0a\x08\x01\x12\x06", ENDPOINT],
    );
    is(spec().unwrap(), &[SPEC]);
    is(
        first::PartitionGroup { id: group(), spec: spec(), partitions: vec![partition()] },
        &[b"\x0a\x06", ID, b"\x12\x0e", SPEC, b"\x1a\x0a\x08\x01\x12\x06", ENDPOINT],
    );
    is(first::GetDatabasesRequest { id: None }, &[]);
    is(first::GetDatabasesRequest { id: first_database() }, &[b"\x0a\x06", ID]);
    is(first::GetPartitionGroupsRequest { id: Some(first::PartitionGroupId::default()) }, &[b"\x0a\x00"]);
    is(first::GetPartitionGroupsRequest { id: group() }, &[b"\x0a\x06", ID]);
    is(first::CreatePartitionGroupRequest { id: group(), spec: spec() }, &[b"\x0a\x06", ID, b"\x12\x0e", SPEC]);
    is(first::CreatePartitionGroupResponse {}, &[]);
    is(first::DeletePartitionGroupRequest { id: group() }, &[b"\x0a\x06", ID]);
    is(first::DeletePartitionGroupResponse {}, &[]);
}

#[test]
fn elections_are_these_bytes() {
    let cluster = Some(first::ClusterId { id: 2, database_id: first_database() });
    let partition = first::PartitionId { partition: 5, group: group(), cluster };
    is(partition.clone(), &[b"\x08\x05\x12\x06", ID, b"\x1a\x0a", CLUSTER]);
    // An int32 below zero takes ten bytes, as if it were an int64.
    let below = first::PartitionId { partition: -1, group: None, cluster: None };
    is(below, &[b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]);
    is(
        first::PartitionElectionRequest { partition_id: Some(partition), member: "m".into() },
        &[b"\x0a\x16\x08\x05\x12\x06", ID, b"\x1a\x0a", CLUSTER, b"\x12\x01m"],
    );
    let term = first::PrimaryTerm { term: 7, primary: "p".into(), candidates: vec!["p".into(), "q".into()] };
    is(term.clone(), &[b"\x08\x07\x12\x01p\x1a\x01p\x1a\x01q"]);
    is(first::PartitionElectionResponse { term: Some(term) }, &[b"\x0a\x0b\x08\x07\x12\x01p\x1a\x01p\x1a\x01q"]);
    let late = first::PrimaryTerm { term: i64::MAX, ..first::PrimaryTerm::default() };
    is(late, &[b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"]);
}

#[test]
fn databases_of_the_second_generation_are_these_bytes() {
    is(database().unwrap(), &[ID]);
    is(database::PartitionId { partition: 1 }, &[b"\x08\x01"]);
    let endpoint = database::PartitionEndpoint { host: "h".into(), port: 5678 };
    is(endpoint.clone(), &[ENDPOINT]);
    let id = Some(database::PartitionId { partition: 1 });
    let partition = database::Partition { partition_id: id, endpoints: vec![endpoint] };
    is(partition.clone(), &[b"\x0a\x02\x08\x01\x12\x06", ENDPOINT]);
    is(
        database::Database { id: database(), partitions: vec![partition] },
        &[b"\x0a\x06", ID, b"\x12\x0c\x0a\x02\x08\x01\x12\x06", ENDPOINT],
    );
    is(database::GetDatabaseRequest { id: database() }, &[b"\x0a\x06", ID]);
    is(database::GetDatabasesRequest { namespace: "n".into() }, &[b"\x0a\x01n"]);
}

#[test]
fn peers_are_these_bytes() {
    let group_id = Some(membership::GroupId { name: "a".into(), namespace: "n".into() });
    is(group_id.clone().unwrap(), &[ID]);
    let id = Some(membership::MemberId { name: "a".into(), namespace: "n".into() });
    is(id.clone().unwrap(), &[ID]);
    let member = membership::Member { id, host: "h".into(), port: 5678 };
    is(member.clone(), &[b"\x0a\x06", ID, b"\x12\x01h\x18\xae\x2c"]);
    is(membership::JoinGroupRequest { member: None, group_id: group_id.clone() }, &[b"\x12\x06", ID]);
    is(
        membership::JoinGroupRequest { member: Some(member), group_id },
        &[b"\x0a\x0e\x0a\x06", ID, b"\x12\x01h\x18\xae\x2c\x12\x06", ID],
    );
}

#[test]
fn primitives_are_these_bytes() {
    use primitive::PrimitiveType;
    const PRIMITIVE: &[u8] = b"\x0a\x01p\x12\x01s";
    const METADATA: &[u8] = b"\x0a\x06\x0a\x01a\x12\x01n\x12\x06\x0a\x01p\x12\x01s\x18\x08";
    is(primitive().unwrap(), &[PRIMITIVE]);
    let r#type = PrimitiveType::Map.into();
    let metadata = || primitive::PrimitiveMetadata { database: database(), primitive: primitive(), r#type };
    is(metadata(), &[METADATA]);
    let create = primitive::CreatePrimitiveRequest { database: database(), primitive: primitive(), r#type };
    is(create, &[METADATA]);
    is(primitive::CreatePrimitiveResponse { primitive: Some(metadata()) }, &[b"\x0a\x12", METADATA]);
    let get = primitive::GetPrimitiveRequest { database: database(), primitive: primitive() };
    is(get, &[b"\x0a\x06", ID, b"\x12\x06", PRIMITIVE]);
    is(primitive::GetPrimitiveResponse { primitive: Some(metadata()) }, &[b"\x0a\x12", METADATA]);
    is(primitive::GetPrimitivesRequest { database: None, primitive: None, r#type }, &[b"\x18\x08"]);
    let list = primitive::GetPrimitivesRequest { database: database(), primitive: primitive(), r#type };
    is(list, &[METADATA]);
    let all = primitive::GetPrimitivesResponse { primitives: vec![metadata(), metadata()] };
    is(all, &[b"\x0a\x12", METADATA, b"\x0a\x12", METADATA]);
    let delete = primitive::DeletePrimitiveRequest { database: database(), primitive: primitive() };
    is(delete, &[b"\x0a\x06", ID, b"\x12\x06", PRIMITIVE]);
    is(primitive::DeletePrimitiveResponse { primitive: Some(metadata()) }, &[b"\x0a\x12", METADATA]);

    let types = "UNKNOWN COUNTER ELECTION INDEXED_MAP LEADER_LATCH LIST LOCK LOG MAP SET VALUE";
    for (number, name) in (0..).zip(types.split(' ')) {
        assert_eq!(PrimitiveType::try_from(number).unwrap().as_str_name(), name);
    }
    assert!(PrimitiveType::try_from(11).is_err());
}

/// What is kept encoded is copied as it is, and put into others under its number.
#[test]
fn kept_bytes_are_sent_as_they_are() {
    let kept = Encoded(Bytes::from_static(ID));
    assert_eq!((kept.encode_to_vec().as_slice(), kept.encoded_len()), (ID, ID.len()));
    let mut into = Vec::new();
    put(1, &database().unwrap(), &mut into);
    put(15, &database::PartitionId { partition: 1 }, &mut into);
    assert_eq!(into, [b"\x0a\x06", ID, b"\x7a\x02\x08\x01"].concat());
}

/// How many cases each test of arbitrary input tries: `ATOMIX_FUZZ_CASES`, for as long as one likes.
fn cases() -> ProptestConfig {
    let cases = std::env::var("ATOMIX_FUZZ_CASES").map_or(Ok(4096), |text| text.parse());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.expect("ATOMIX_FUZZ_CASES is a number")) }
}

/// Takes bytes as a message, or refuses them; what was taken is the same when it is sent and taken again.
fn takes<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(taken) = M::decode(bytes) else { return };
    let sent = taken.encode_to_vec();
    assert_eq!(taken.encoded_len(), sent.len());
    assert_eq!(M::decode(&sent[..]).as_ref(), Ok(&taken));
}

fn taken_by_every_decoder(bytes: &[u8]) {
    takes::<first::CreatePartitionGroupRequest>(bytes);
    takes::<first::DeletePartitionGroupRequest>(bytes);
    takes::<first::GetPartitionGroupsRequest>(bytes);
    takes::<first::PartitionElectionRequest>(bytes);
    takes::<first::GetDatabasesRequest>(bytes);
    takes::<database::GetDatabaseRequest>(bytes);
    takes::<database::GetDatabasesRequest>(bytes);
    takes::<membership::JoinGroupRequest>(bytes);
    takes::<primitive::CreatePrimitiveRequest>(bytes);
    takes::<primitive::GetPrimitiveRequest>(bytes);
    takes::<primitive::GetPrimitivesRequest>(bytes);
    takes::<primitive::DeletePrimitiveRequest>(bytes);
}

/// A request as it should be.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(vec![
        [b"\x0a\x06", ID, b"\x12\x0e", SPEC].concat(),
        [b"\x0a\x16\x08\x05\x12\x06", ID, b"\x1a\x0a", CLUSTER, b"\x12\x01m"].concat(),
        [b"\x0a\x0e\x0a\x06", ID, b"\x12\x01h\x18\xae\x2c\x12\x06", ID].concat(),
        [b"\x0a\x06", ID, b"\x12\x06", ID, b"\x18\x08"].concat(),
    ])
}

/// A request with some bytes changed, doubled, taken out or cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<proptest::sample::Index>(), any::<u8>(), 0..4u8);
    (whole(), proptest::collection::vec(damage, 1..6)).prop_map(|(mut bytes, damages)| {
        for (at, byte, how) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => _ = bytes.remove(at),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        taken_by_every_decoder(&bytes);
    }

    #[test]
    fn a_damaged_request_is_taken_or_refused(bytes in damaged()) {
        taken_by_every_decoder(&bytes);
    }

    #[test]
    fn any_text_makes_a_name_that_kubernetes_takes(text in prop_oneof![any::<String>(), "[-./a-zA-Z0-9]{0,260}"], parts in proptest::collection::vec(any::<String>(), 0..4)) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let name = names::object_name(&text, &parts);
        prop_assert!(names::is_subdomain(&name) && names::is_label(&name), "{}", name);
        prop_assert_eq!(names::object_name(&text, &parts), name);
    }

    #[test]
    fn what_is_taken_for_a_name_is_one(text in prop_oneof![any::<String>(), "[-.a-zA-Z0-9/%]{0,260}", "[-a-z0-9]{0,9}(\\.[-a-z0-9]{0,9}){0,3}"]) {
        let rule = |part: &str| {
            let edge = |c: Option<char>| c.is_some_and(|c| matches!(c, 'a'..='z' | '0'..='9'));
            edge(part.chars().next()) && edge(part.chars().last()) && part.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        };
        prop_assert_eq!(names::is_subdomain(&text), text.len() <= 253 && text.split('.').all(rule));
        prop_assert_eq!(names::is_label(&text), text.len() <= 63 && rule(&text));
    }
}
