//! Which connections are open, since when and doing what, and which one has to go when there are too many: decided by a pure
//! function, [`choose_slot`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ConnectionLimits;

/// The connections to one server.
#[derive(Clone, Debug)]
pub struct ConnectionTable(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    open: BTreeMap<u64, Connection>,
}

/// The right of one connection to be open. Dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    table: ConnectionTable,
    number: u64,
    connection: Connection,
}

/// One open connection: its peer, and what it is doing.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: IpAddr,
    state: Mutex<State>,
    evicted: AtomicBool,
    waker: AtomicWaker,
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub doing: Doing,
    pub since: Instant,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// A handshake; so many bytes came.
    Opening(usize),
    /// No request is open.
    Idle,
    /// A request comes in that the server has not begun to answer.
    Head,
    /// So many requests are answered.
    Busy(usize),
}

/// A request that is answered, until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Connection);

/// One connection, as far as [`choose_slot`] looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub number: u64,
    pub peer: IpAddr,
    pub busy: bool,
    pub since: Instant,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// There is room for it.
    Free,
    /// There is room once the connection of that number is gone.
    InsteadOf(u64),
    /// All of its peer's connections are busy, and it has as many as it may, or more than anyone.
    None,
}

/// Decides on a new connection of `peer`.
pub(super) fn choose_slot(candidates: &[Candidate], peer: IpAddr, limits: &ConnectionLimits) -> Slot {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::from([(peer, 0)]);
    for connection in candidates {
        *counts.entry(connection.peer).or_default() += 1;
    }
    let own = counts[&peer];
    let longest = |of: &dyn Fn(&&Candidate) -> bool| {
        let silent = candidates
            .iter()
            .filter(|connection| of(connection))
            .min_by_key(|connection| (connection.since, connection.number));
        silent.map_or(Slot::None, |connection| Slot::InsteadOf(connection.number))
    };
    if own >= limits.per_peer {
        return longest(&|connection| connection.peer == peer && !connection.busy);
    }
    if candidates.len() < limits.total {
        return Slot::Free;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let of_most = |connection: &&Candidate| counts[&connection.peer] == most;
    match longest(&|connection| of_most(connection) && !connection.busy) {
        Slot::None if own < most => longest(&of_most),
        found => found,
    }
}

impl ConnectionTable {
    /// A table without connections.
    pub fn new(limits: ConnectionLimits) -> ConnectionTable {
        ConnectionTable(Arc::new(Shared { limits, connections: Mutex::default() }))
    }

    /// Admits a connection of `peer`, if need be by ending another one. `None` if it is refused.
    pub fn admit(&self, peer: IpAddr) -> Option<Permit> {
        let peer = peer.to_canonical();
        let mut connections = self.0.connections.lock();
        if connections.open.len() >= self.0.limits.per_peer.min(self.0.limits.total) {
            let candidates: Vec<Candidate> =
                connections.open.iter().map(|(number, connection)| connection.candidate(*number)).collect();
            match choose_slot(&candidates, peer, &self.0.limits) {
                Slot::Free => {}
                Slot::InsteadOf(number) => {
                    if let Some(connection) = connections.open.remove(&number) {
                        tracing::debug!(peer = %connection.0.peer, of = %peer, "a connection ends to make room for another");
                        connection.evict();
                    }
                }
                Slot::None => {
                    tracing::debug!(%peer, "a connection is refused: its peer has as many as it may");
                    return None;
                }
            }
        }
        connections.last += 1;
        let number = connections.last;
        let state = Mutex::new(State { doing: Doing::Opening(0), since: Instant::now() });
        let inner = Inner { peer, state, evicted: AtomicBool::new(false), waker: AtomicWaker::new() };
        let connection = Connection(Arc::new(inner));
        connections.open.insert(number, connection.clone());
        drop(connections);
        Some(Permit { table: self.clone(), number, connection })
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.0.connections.lock().open.len()
    }
}

impl Permit {
    pub(super) fn limits(&self) -> &ConnectionLimits {
        &self.table.0.limits
    }

    /// The connection that it is for.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits until the connection has to go although it is still opening: it is displaced, or too slow.
    pub async fn opening_ended(&self) {
        let evicted = std::future::poll_fn(|task| self.connection.poll_evicted(task));
        let _ = tokio::time::timeout_at(self.connection.state().since + self.limits().opening, evicted).await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.table.0.connections.lock().open.remove(&self.number);
    }
}

impl Connection {
    /// IP address of the peer.
    pub fn peer(&self) -> IpAddr {
        self.0.peer
    }

    /// Records that a request begins; it ends when the result is dropped.
    pub fn begin_request(&self) -> ActiveRequest {
        let mut state = self.0.state.lock();
        match &mut state.doing {
            Doing::Busy(count) => *count += 1,
            _ => *state = State { doing: Doing::Busy(1), since: Instant::now() },
        }
        ActiveRequest(self.clone())
    }

    /// Records that the peer sent `bytes` bytes.
    pub(super) fn received(&self, bytes: usize, limits: &ConnectionLimits) {
        let mut state = self.0.state.lock();
        if let Doing::Opening(before) = state.doing {
            let all = before + bytes;
            state.doing = Doing::Opening(all);
            if all >= limits.opening_bytes {
                *state = State { doing: Doing::Idle, since: Instant::now() };
            }
        }
        if state.doing == Doing::Idle && bytes > 0 && limits.head.is_some() {
            *state = State { doing: Doing::Head, since: Instant::now() };
        }
    }

    /// When it is closed if nothing changes; `None` if it may go on for ever.
    pub(super) fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        let State { doing, since } = self.state();
        let within = match doing {
            Doing::Opening(_) => Some(limits.opening),
            Doing::Idle => limits.idle,
            Doing::Head => limits.head,
            Doing::Busy(_) => None,
        };
        within.map(|within| since + within)
    }

    pub(super) fn state(&self) -> State {
        *self.0.state.lock()
    }

    /// Ready once the connection has to make room.
    pub(super) fn poll_evicted(&self, task: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(task.waker());
        match self.0.evicted.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn evict(&self) {
        self.0.evicted.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn candidate(&self, number: u64) -> Candidate {
        let State { doing, since } = self.state();
        Candidate { number, peer: self.0.peer, busy: matches!(doing, Doing::Busy(_)), since }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.0.state.lock();
        match &mut state.doing {
            Doing::Busy(count) if *count > 1 => *count -= 1,
            _ => *state = State { doing: Doing::Idle, since: Instant::now() },
        }
    }
}
