//! Free ports on 127.0.0.1. Knows nothing of what uses them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

// Below the range that systems hand out to outgoing connections, so that none of these takes a port between the look and its use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that nothing listens on, not handed out by this process before.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start().wrapping_add(u32::from(step)) % u32::from(COUNT)) as u16;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {} on 127.0.0.1", FIRST + COUNT)
}

/// Whether nothing listens on this port of 127.0.0.1.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

// Processes that start at the same time begin at different places.
fn start() -> u32 {
    std::process::id().wrapping_mul(97)
}
