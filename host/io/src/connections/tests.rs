//! Connections over real sockets, from several addresses of this machine.

use super::table::{Candidate, Slot, choose_slot};
use super::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

const TIGHT: ConnectionLimits = ConnectionLimits {
    total: 6,
    per_peer: 3,
    opening: Duration::from_millis(100),
    opening_bytes: 0,
    head: Some(Duration::from_millis(100)),
    idle: Some(Duration::from_secs(60)),
};

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

#[test]
fn the_peer_with_the_most_makes_room_and_a_busy_connection_stays() {
    let start = tokio::time::Instant::now();
    let candidates = |all: &[(u8, bool)]| -> Vec<Candidate> {
        let connection = |(at, (peer, busy)): (usize, &(u8, bool))| {
            let number = at as u64;
            Candidate { number, peer: ip(*peer), busy: *busy, since: start + Duration::from_secs(number) }
        };
        all.iter().enumerate().map(connection).collect()
    };
    let (idle, busy) = (false, true);
    for (name, all, newcomer, expected) in [
        ("room", vec![(1, idle), (2, idle)], 1, Slot::Free),
        ("its own share is used up", vec![(1, busy), (1, idle), (1, idle), (2, idle)], 1, Slot::InsteadOf(1)),
        ("and all of it answers", vec![(1, busy), (1, busy), (1, busy)], 1, Slot::None),
        ("full: of the most", vec![(3, idle), (1, idle), (1, idle), (1, idle), (2, idle), (2, idle)], 9, Slot::InsteadOf(1)),
        ("what is silent", vec![(3, idle), (1, busy), (1, busy), (1, idle), (2, idle), (2, idle)], 9, Slot::InsteadOf(3)),
        ("all of it answers", vec![(3, idle), (1, busy), (1, busy), (1, busy), (2, idle), (2, idle)], 9, Slot::InsteadOf(1)),
        ("everyone has one", vec![(1, idle), (2, idle), (3, idle), (4, idle), (5, idle), (6, idle)], 9, Slot::InsteadOf(0)),
        (
            "it has the most itself",
            vec![(1, busy), (1, busy), (2, idle), (2, busy), (3, idle), (4, idle)],
            1,
            Slot::InsteadOf(2),
        ),
    ] {
        assert_eq!(choose_slot(&candidates(&all), ip(newcomer), &TIGHT), expected, "{name}");
    }
}

async fn served(limits: ConnectionLimits) -> (SocketAddr, ConnectionTable) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::new(tcp, limits);
    let (address, table) = (listener.local_addr().unwrap(), listener.table.clone());
    let hold = Arc::new(tokio::sync::Notify::new());
    let release = hold.clone();
    let routes = Router::new()
        .route("/", get(async || "ok"))
        .route("/body", post(async |body: String| body))
        .route("/hold", get(move || async move { hold.notified().await }))
        .route("/release", get(move || async move { release.notify_waiters() }));
    let routes = with_request_timeout(routes, Duration::from_millis(500)).into_make_service_with_connect_info::<Origin>();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, table)
}

async fn connect(to: SocketAddr, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip(from), 0))).unwrap();
    socket.connect(to).await.unwrap()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads to the end of an answer's headers; empty if the connection ended.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await.expect("an answer or an end");
        match read {
            Ok(0) | Err(_) => return String::from_utf8(all).unwrap(),
            Ok(bytes) => all.extend_from_slice(&buffer[..bytes]),
        }
        if all.windows(4).any(|end| end == b"\r\n\r\n") {
            return String::from_utf8(all).unwrap();
        }
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn silent_connections_never_keep_anyone_out() {
    let (address, table) = served(TIGHT).await;
    let mut kept = connect(address, 9).await;
    send(&mut kept, REQUEST).await;
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 200"));
    let mut silent = Vec::new();
    for at in 0..40 {
        silent.push(connect(address, 2 + at % 2).await);
        let mut other = connect(address, 8).await;
        send(&mut other, REQUEST).await;
        assert!(read_head(&mut other).await.starts_with("HTTP/1.1 200"), "a stranger is answered, with {at} silent ones");
    }
    assert!(table.count() <= 6, "{}", table.count());
    send(&mut kept, REQUEST).await;
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 200"), "a peer with one connection keeps it");
}

#[tokio::test]
async fn one_peer_displaces_only_its_own() {
    let (address, table) = served(TIGHT).await;
    let mut first = connect(address, 2).await;
    let mut others: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        others.push(connect(address, 2).await);
    }
    assert_eq!(read_head(&mut first).await, "", "the oldest has ended");
    for stream in &mut others {
        send(stream, REQUEST).await;
        assert!(read_head(stream).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(table.count(), 3);
}

#[tokio::test]
async fn headers_that_do_not_end_and_bodies_that_do_not_come_are_given_up_and_a_silent_connection_stays() {
    let (address, table) = served(TIGHT).await;
    let mut silent = connect(address, 2).await;
    let (mut drips, began) = (connect(address, 3).await, Instant::now());
    send(&mut drips, "GET / HTTP/1.1\r\nHost:").await;
    let ended = read_head(&mut drips).await;
    assert!(!ended.contains("200") && began.elapsed() >= Duration::from_millis(100), "{ended} after {:?}", began.elapsed());
    let mut body = connect(address, 3).await;
    send(&mut body, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(read_head(&mut body).await.starts_with("HTTP/1.1 408"));
    send(&mut silent, REQUEST).await;
    assert!(read_head(&mut silent).await.starts_with("HTTP/1.1 200"));
    drop((silent, drips, body));
    let start = Instant::now();
    while table.count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} places are not given back", table.count());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_silent_connection_ends_after_its_time() {
    let (address, table) = served(ConnectionLimits { idle: Some(Duration::from_millis(100)), ..TIGHT }).await;
    let mut once = connect(address, 2).await;
    send(&mut once, REQUEST).await;
    assert!(read_head(&mut once).await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_head(&mut once).await, "");
    assert_eq!(read_head(&mut connect(address, 2).await).await, "");
    let mut held = connect(address, 3).await;
    send(&mut held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(read_head(&mut held).await.starts_with("HTTP/1.1 408"), "a request has a time of its own, which is longer");
    assert!(table.count() <= 1);
}

#[tokio::test]
async fn an_opening_without_its_bytes_ends_after_its_time() {
    let (address, _) = served(ConnectionLimits { opening_bytes: 24, ..TIGHT }).await;
    let mut short = connect(address, 2).await;
    send(&mut short, "PRI").await;
    assert_eq!(read_head(&mut short).await, "");
}
