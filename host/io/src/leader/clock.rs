//! The clock by which Leases are kept. It goes on while the machine sleeps: a Lease that a replica held before it slept may
//! be another's when it wakes up. Knows no Lease.

use std::ops::{Add, Sub};
use std::time::Duration;

use atomix_model::limits;

/// A moment, as time since the machine booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now, by a clock that counts the time in which the machine is suspended, where there is one.
    pub fn now() -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        Moment(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    /// Nanoseconds since the machine booted.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment of so many nanoseconds since the machine booted.
    pub fn of_nanos(nanos: u64) -> Moment {
        Moment(Duration::from_nanos(nanos))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What came of waiting for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The moment came while this process ran.
    Due,
    /// The process or the machine stood still for a while meanwhile: what was known before may be long over.
    Late,
}

/// Waits until `at`, and no longer than a moment after the machine woke up, if it slept. Timers stand still while it does.
pub async fn reached(at: Moment) -> Reached {
    loop {
        let before = Moment::now();
        if at <= before {
            return Reached::Due;
        }
        let step = at.since(before).min(limits::CLOCK_LOOK);
        tokio::time::sleep(step).await;
        if stood_still(before, step, Moment::now()) {
            return Reached::Late;
        }
    }
}

/// Whether so much more time went by than was waited for that this process or its machine stood still.
pub fn stood_still(before: Moment, waited: Duration, now: Moment) -> bool {
    now.since(before) > waited + limits::LEASE_MARGIN
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0 + time)
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0.saturating_sub(time))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_the_clock_that_goes_on_while_the_machine_sleeps() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap(); // counts suspended time: CLOCK_BOOTTIME
        let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let now = Moment::now().0.as_secs_f64();
        assert!((now - uptime).abs() < 5.0, "{now} and {uptime}");
    }

    #[tokio::test]
    async fn a_wait_ends_when_it_is_due_and_a_machine_that_stood_still_is_noticed() {
        let start = Moment::now();
        assert_eq!(reached(start + Duration::from_millis(30)).await, Reached::Due);
        assert!(Moment::now() >= start + Duration::from_millis(30));
        let second = Duration::from_secs(1);
        assert!(!stood_still(start, second, start + second + limits::LEASE_MARGIN), "a busy machine is late, too");
        assert!(stood_still(start, second, start + second + limits::LEASE_MARGIN + Duration::from_millis(1)));
    }
}
