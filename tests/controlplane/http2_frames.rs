//! The gRPC API byte by byte, over HTTP/2 frames of our own making: answers are the bytes worked out by hand, and whatever else comes
//! is refused by a server that goes on.

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use harness::fixture::{Namespace, SOON, shared_fixture};
use harness::manifests::Manifests;
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::grpc_descriptors::described;

// Codes of gRPC, as numbers on the wire (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

/// A connection of ours.
pub(super) struct Wire(SendRequest<Bytes>);

/// An answer, as it comes.
pub(super) struct Answer {
    http: u16,
    headers: HeaderMap,
    body: RecvStream,
    read: Vec<u8>,
}

impl Wire {
    pub(super) async fn dial(address: &str) -> Wire {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Wire(send)
    }

    /// Sends a request with this body and ends it.
    pub(super) async fn send(&self, path: &str, headers: &[(&'static str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::post(format!("http://controller{path}")).body(()).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let answered = async {
            let (answer, mut stream) = self.0.clone().ready().await.unwrap().send_request(request, false).unwrap();
            stream.send_data(body.into(), true).unwrap();
            let (parts, body) = answer.await.unwrap().into_parts();
            Answer { http: parts.status.as_u16(), headers: parts.headers, body, read: Vec::new() }
        };
        tokio::time::timeout(SOON, answered).await.expect("an answer comes soon")
    }
}

impl Answer {
    /// Reads so many bytes of the body, or to its end.
    async fn read(&mut self, enough: usize) -> &[u8] {
        while self.read.len() < enough {
            let data = tokio::time::timeout(SOON, self.body.data()).await.expect("the answer goes on soon");
            let Some(Ok(data)) = data else { break };
            self.body.flow_control().release_capacity(data.len()).unwrap();
            self.read.extend_from_slice(&data);
        }
        &self.read
    }

    /// The code that it ends with; none for what is not gRPC.
    pub(super) async fn code(self) -> Option<i32> {
        Some(self.status().await?.0)
    }

    /// That code and its message, in trailers or, where there are none, in headers.
    pub(super) async fn status(mut self) -> Option<(i32, String)> {
        self.read(usize::MAX).await;
        let trailers = self.body.trailers().await.ok().flatten().unwrap_or_default();
        let fields = if trailers.contains_key("grpc-status") { trailers } else { self.headers };
        let text = |key: &str| fields.get(key).map(|value| value.to_str().unwrap().to_owned());
        let message = text("grpc-message").unwrap_or_default(); // percent-encoded, as gRPC over HTTP/2 has it
        let message = percent_encoding::percent_decode_str(&message).decode_utf8_lossy().into_owned();
        Some((text("grpc-status")?.parse().ok()?, message))
    }
}

/// A message as it travels: a flag, the length in four bytes, the message.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

async fn with_database(ns: &Namespace<'_>) {
    ns.create_ready(&database_and_pod()).await;
}

#[tokio::test]
async fn what_is_kept_encoded_is_answered_as_these_bytes() {
    let ns = shared_fixture().await.namespace("w").await;
    with_database(&ns).await;
    let wire = Wire::dial(&ns.fixture().controller.grpc()).await;

    const DB: &[u8] = b"\x0a\x02db\x12\x01w"; // 1: name, 2: namespace
    const ENDPOINT: &[u8] = b"\x0a\x18db-1.w.svc.cluster.local\x10\xae\x2c"; // 1: host of 24 bytes, 2: port 5678
    let first_database: &[&[u8]] = &[b"\x0a\x07", DB, b"\x12\x21\x08\x01\x12\x1d", ENDPOINT]; // 1: id, 2: partition {1: 1, 2: endpoint}
    let second_database: &[&[u8]] = &[b"\x0a\x07", DB, b"\x12\x23\x0a\x02\x08\x01\x12\x1d", ENDPOINT]; // {1: {1: 1}, 2: endpoint}
    // 1: id, 2: spec {1: 1 partition, 2: of size 1, 3: protocol {1: type URL of 54 bytes}}, 3: partition {1: 1, 2: endpoint}
    let group: &[&[u8]] = &[
        b"\x0a\x07",
        DB,
        b"\x12\x3e\x08\x01\x10\x01\x1a\x38\x0a\x36type.googleapis.com/atomix.cache.config.ProtocolConfig",
        b"\x1a\x21\x08\x01\x12\x1d",
        ENDPOINT,
    ];
    for (path, request, size, answer) in [
        ("/atomix.controller.ControllerService/GetDatabases", &b"\x0a\x07\x0a\x02db\x12\x01w"[..], 44, first_database),
        ("/atomix.controller.ControllerService/GetDatabases", b"\x0a\x03\x12\x01w", 44, first_database),
        ("/atomix.controller.ControllerService/GetPartitionGroups", b"\x0a\x07\x0a\x02db\x12\x01w", 108, group),
        ("/atomix.database.DatabaseService/GetDatabase", b"\x0a\x07\x0a\x02db\x12\x01w", 46, second_database),
        ("/atomix.database.DatabaseService/GetDatabases", b"\x0a\x01w", 46, second_database),
    ] {
        let expected = framed(&[&[0x0a, size][..], &answer.concat()].concat()); // 1: the database or group
        let mut answer = wire.send(path, &[], framed(request)).await;
        assert_eq!(answer.http, 200);
        assert_eq!(answer.read(usize::MAX).await, expected, "{path} {request:?}");
        assert_eq!(answer.code().await, Some(0));
    }

    // 1: member {1: id, 2: host, 3: port}, 2: group
    let join = b"\x0a\x0e\x0a\x06\x0a\x01a\x12\x01w\x12\x01h\x18\xae\x2c\x12\x06\x0a\x01g\x12\x01w";
    // 1: group, 2: member
    let joined = b"\x0a\x06\x0a\x01g\x12\x01w\x12\x0e\x0a\x06\x0a\x01a\x12\x01w\x12\x01h\x18\xae\x2c";
    let mut answer = wire.send("/atomix.membership.MembershipService/JoinGroup", &[], framed(join)).await;
    assert_eq!(answer.read(5 + joined.len()).await, framed(joined));
    let watch = b"\x12\x05\x0a\x00\x12\x01w"; // 2: a group without a name: it has no members
    let empty = b"\x0a\x03\x12\x01w"; // names that are empty are not sent
    let mut answer = wire.send("/atomix.membership.MembershipService/JoinGroup", &[], framed(watch)).await;
    assert_eq!(answer.read(5 + empty.len()).await, framed(empty));
}

#[tokio::test]
async fn malformed_frames_are_refused_and_the_server_goes_on() {
    let ns = shared_fixture().await.namespace("frames").await;
    with_database(&ns).await;
    let controller = &ns.fixture().controller;
    let (address, pid) = (controller.grpc(), controller.pid());
    let wire = Wire::dial(&address).await;

    let methods: Vec<String> = described().0.into_iter().map(|method| method.path).collect();
    for method in &methods {
        for (what, headers, body, code) in [
            ("no message", &[][..], &b""[..], INTERNAL),
            ("half a prefix", &[], b"\0\0\0", INTERNAL),
            ("a message cut off", &[], b"\0\0\0\0\x0a\x0a\x01", INTERNAL),
            ("a message longer than any may be", &[], b"\0\xff\xff\xff\xff\x0a\x01a", RESOURCE_EXHAUSTED),
            ("compressed with nothing", &[], b"\x01\0\0\0\x03\x0a\x01a", INTERNAL),
            ("compressed with gzip", &[("grpc-encoding", "gzip")], b"\x01\0\0\0\x03\x0a\x01a", UNIMPLEMENTED),
            ("a flag that does not exist", &[], b"\x07\0\0\0\x03\x0a\x01a", INTERNAL),
            ("no fields", &[], b"\0\0\0\0\x03\xff\xff\xff", INTERNAL),
            ("a field longer than the message", &[], b"\0\0\0\0\x03\x0a\x7fa", INTERNAL),
        ] {
            let answer = wire.send(method, headers, body.to_vec()).await;
            assert_eq!((answer.http, answer.code().await), (200, Some(code)), "{method}: {what}");
        }
    }
    let metrics = controller.metrics().await.unwrap();
    for method in methods.iter().map(|path| &path[1..]) {
        let counted = format!("atomix_grpc_calls_total{{method=\"{method}\",code=\"RESOURCE_EXHAUSTED\"}}");
        assert!(metrics.contains(&counted), "{counted} is not in\n{metrics}");
    }
    for unknown in ["/", "/x", "/atomix.database.DatabaseService/None", "/atomix.none.None/GetDatabase", "/%ff/..//../etc"] {
        let answer = wire.send(unknown, &[], framed(b"")).await;
        assert_eq!((answer.http, answer.code().await), (200, Some(UNIMPLEMENTED)), "{unknown}");
    }
    let get = "/atomix.database.DatabaseService/GetDatabases";
    for other in ["application/json", "text/html", "x"] {
        let answer = wire.send(get, &[("content-type", other)], framed(b"\x0a\x06frames")).await;
        assert_eq!(answer.http, 415, "{other} is no gRPC");
    }

    let mut random = Random(0x5eed);
    for _ in 0..cases() {
        let method = &methods[random.below(methods.len())];
        let message = random.bytes(48);
        let body = if random.below(4) == 0 { message } else { framed(&message) };
        // Some bytes are a request to watch, which ends when its time is up.
        let answer = wire.send(method, &[("grpc-timeout", "200m")], body.clone()).await;
        let (http, code) = (answer.http, answer.code().await);
        assert!(http == 200 && code.is_some(), "{method} {body:?}: {http}");
    }
    let watch = wire.send("/atomix.membership.MembershipService/JoinGroup", &[("grpc-timeout", "200m")], framed(b"")).await;
    assert_eq!(watch.code().await, Some(DEADLINE_EXCEEDED));

    // What is not even a request.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0"; // length, type, flags, stream
    let noise: [(&str, &[&[u8]]); 9] = [
        ("HTTP/1.1", &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
        ("a handshake of TLS", &[b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"]),
        ("a frame of 16 MB", &[PREFACE, SETTINGS, b"\xff\xff\xff\0\0\0\0\0\x01"]),
        ("settings of five bytes", &[PREFACE, b"\0\0\x05\x04\0\0\0\0\0\0\0\0\0\0"]),
        ("headers of no stream", &[PREFACE, SETTINGS, b"\0\0\x01\x01\x05\0\0\0\0\x82"]),
        ("headers that cannot be unpacked", &[PREFACE, SETTINGS, b"\0\0\x02\x01\x05\0\0\0\x01\xff\xff"]),
        ("data of a stream that is not open", &[PREFACE, SETTINGS, b"\0\0\x01\0\x01\0\0\0\x01x"]),
        (
            "a header that does not end, then a ping",
            &[PREFACE, SETTINGS, b"\0\0\x01\x01\0\0\0\0\x01\x82\0\0\x08\x06\0\0\0\0\0pingping"],
        ),
        ("a window of nothing", &[PREFACE, SETTINGS, b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0"]),
    ];
    for (what, sent) in noise {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(&sent.concat()).await;
        let _ = stream.shutdown().await; // the server may have been faster
        let mut received = Vec::new();
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "{what}: the connection is closed"); // in good order or not
    }
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let begin = [PREFACE, SETTINGS].concat();
        let noise = [if random.below(2) == 0 { begin } else { Vec::new() }, random.bytes(200)].concat();
        let _ = stream.write_all(&noise).await;
    }
    let (answer, mut stream) =
        wire.0.clone().ready().await.unwrap().send_request(Request::post("http://c/x").body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"\0\0"), false).unwrap();
    stream.send_reset(h2::Reason::CANCEL);
    drop(answer);

    let mut answer = wire.send(get, &[], framed(b"\x0a\x06frames")).await;
    assert_eq!(answer.read(9).await[5..9], *b"\x0a\x38\x0a\x0c", "the same connection goes on");
    let mut answer = Wire::dial(&address).await.send(get, &[], framed(b"\x0a\x06frames")).await;
    assert_eq!(answer.read(9).await[5..9], *b"\x0a\x38\x0a\x0c", "and so do others");
    assert_eq!((controller.pid(), controller.ended()), (pid, false), "it did not start anew");
    let log = controller.log_tail(usize::MAX);
    assert!(!log.contains("panicked"), "{log}");
}

/// How many random requests are sent: `ATOMIX_FUZZ_CASES`, for as long as one likes.
fn cases() -> usize {
    std::env::var("ATOMIX_FUZZ_CASES").map_or(300, |text| text.parse().expect("ATOMIX_FUZZ_CASES is a number"))
}

/// Numbers that look like chance and are the same in every run: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// A database and the pod of a program.
pub(super) fn database_and_pod() -> Manifests {
    Manifests::cache().database("db", 1).pods(["a"])
}
