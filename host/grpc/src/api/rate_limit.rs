//! How often the clients at one address may write: so many at once, and so many a second after that. Knows no service.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::Status;

use atomix_model::limits;

/// A token bucket for the writes of each client address.
#[derive(Default)]
pub(super) struct WriteRates(Mutex<HashMap<Option<IpAddr>, Used>>);

/// What one address has used, of what it may ask for at once, when it last asked. It comes back with time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Used {
    writes: f64,
    at: Instant,
}

impl WriteRates {
    /// Counts a write that a client at `from` asks for, or refuses it.
    pub(super) fn count(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Status> {
        let mut used = self.0.lock();
        if used.len() >= limits::CLIENTS_COUNTED_MAX && !used.contains_key(&from) {
            used.retain(|_, used| left(*used, now) > 0.0);
            let oldest = used.iter().min_by_key(|(_, used)| used.at).map(|(from, _)| *from);
            if let Some(oldest) = oldest.filter(|_| used.len() >= limits::CLIENTS_COUNTED_MAX) {
                used.remove(&oldest);
            }
        }
        let before = used.get(&from).map_or(0.0, |used| left(*used, now));
        let most = f64::from(limits::CLIENT_WRITES_AT_ONCE);
        if before + 1.0 > most {
            let wait = Duration::from_secs_f64((before + 1.0 - most) / f64::from(limits::CLIENT_WRITES_PER_SEC));
            return Err(Status::resource_exhausted(format!(
                "too many writes from one address: {} at once and {} a second are accepted; try again in {} ms",
                limits::CLIENT_WRITES_AT_ONCE,
                limits::CLIENT_WRITES_PER_SEC,
                wait.as_millis().max(1)
            )));
        }
        used.insert(from, Used { writes: before + 1.0, at: now });
        Ok(())
    }
}

/// How many of the counted writes still count at this moment.
fn left(used: Used, now: Instant) -> f64 {
    let back = now.saturating_duration_since(used.at).as_secs_f64() * f64::from(limits::CLIENT_WRITES_PER_SEC);
    (used.writes - back).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn so_many_at_once_and_so_many_a_second_for_each_address() {
        let (writes, start) = (WriteRates::default(), Instant::now());
        let taken = |from, now| (0..3000).filter(|_| writes.count(address(from), now).is_ok()).count();
        assert_eq!(taken(1, start), limits::CLIENT_WRITES_AT_ONCE as usize);
        let refused = writes.count(address(1), start).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().ends_with("try again in 10 ms"), "{refused}");
        assert_eq!(taken(2, start), limits::CLIENT_WRITES_AT_ONCE as usize, "another address has its own");
        let second = start + Duration::from_secs(1);
        assert_eq!(taken(1, second), limits::CLIENT_WRITES_PER_SEC as usize);
        assert_eq!(taken(1, second + Duration::from_secs(3600)), limits::CLIENT_WRITES_AT_ONCE as usize);
    }

    #[test]
    fn addresses_are_forgotten_and_their_number_has_an_end() {
        let (writes, start) = (WriteRates::default(), Instant::now());
        for number in 0..10_000 {
            writes.count(address(number), start + Duration::from_millis(10 * u64::from(number))).unwrap();
        }
        assert!(writes.0.lock().len() <= limits::CLIENTS_COUNTED_MAX);
        let busy = WriteRates::default();
        for number in 0..10_000 {
            busy.count(address(number), start + Duration::from_nanos(number.into())).unwrap();
        }
        assert_eq!(busy.0.lock().len(), limits::CLIENTS_COUNTED_MAX);
        let kept = busy.0.lock();
        assert!(!kept.contains_key(&address(0)) && kept.contains_key(&address(9999)), "the oldest go");
    }
}
