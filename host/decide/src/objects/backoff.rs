//! Exponential back-off for what is done again and again although nothing was edited: how often it was done, and how long
//! the next time has to wait. Pure: time is an argument.

use std::time::{Duration, Instant};

use atomix_model::limits;

/// Counts repetitions in a row. A row ends when nothing has been done for [`limits::REPEAT_RESET_AFTER`]; it is reported for as
/// long as one more is to be expected.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    times: u32,
    last: Instant,
    /// Seconds between the last two.
    apart: u32,
}

impl Backoff {
    /// A row that begins now: something was done for the first time, which is no repetition yet.
    pub fn start(now: Instant) -> Backoff {
        Backoff { times: 0, last: now, apart: 0 }
    }

    /// The row with one more repetition.
    pub fn repeat(self, now: Instant) -> Backoff {
        let times = if self.is_active(now) { self.times } else { 0 };
        let apart = now.saturating_duration_since(self.last).min(limits::REPEAT_RESET_AFTER).as_secs();
        Backoff { times: times.saturating_add(1), last: now, apart: u32::try_from(apart).unwrap_or(u32::MAX) }
    }

    /// Whether the row has not ended.
    pub fn is_active(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < limits::REPEAT_RESET_AFTER
    }

    /// Whether the row is, or with one more repetition becomes, long enough to be reported.
    pub fn is_nearly_reported(self) -> bool {
        self.times + 1 >= limits::REPEATS_WITHOUT_DELAY
    }

    /// How long the next repetition has to wait. None if it need not.
    pub fn delay(&self, now: Instant) -> Option<Duration> {
        left(self.last, self.pause()?, now)
    }

    /// How long from now the row is reported. None if it is too short, or if nothing has been done again for so long, measured by
    /// the time between the last two, that it is over.
    pub fn reported_for(&self, now: Instant) -> Option<Duration> {
        if self.times < limits::REPEATS_WITHOUT_DELAY {
            return None;
        }
        let expected = Duration::from_secs(self.apart.into()) * 2;
        let quiet = limits::REPEAT_OVER_AFTER + expected.max(self.pause().unwrap_or_default());
        left(self.last, quiet.min(limits::REPEAT_RESET_AFTER), now)
    }

    /// How long after the last repetition the next may be made. None if it need not wait.
    fn pause(&self) -> Option<Duration> {
        let beyond = self.times.checked_sub(limits::REPEATS_WITHOUT_DELAY)?;
        let pause = limits::RETRY_AFTER_MIN.saturating_mul(2_u32.saturating_pow(beyond + 1));
        Some(pause.min(limits::REPEAT_DELAY_MAX))
    }
}

/// What is left at `now` of a time that began at `start`. None if nothing is.
fn left(start: Instant, time: Duration, now: Instant) -> Option<Duration> {
    start.checked_add(time)?.checked_duration_since(now).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_repetitions_are_free_then_each_waits_longer_and_a_quiet_time_ends_the_row() {
        let mut now = Instant::now();
        let mut backoff = Backoff::start(now);
        for _ in 0..limits::REPEATS_WITHOUT_DELAY {
            assert_eq!((backoff.delay(now), backoff.reported_for(now)), (None, None));
            backoff = backoff.repeat(now);
        }
        let mut before = Duration::ZERO;
        for _ in 0..20 {
            let pause = backoff.delay(now).expect("it waits");
            assert!(pause > before || pause == limits::REPEAT_DELAY_MAX, "{pause:?} after {before:?}");
            assert!(backoff.reported_for(now).is_some_and(|left| left > pause), "it is reported for as long as it waits");
            (before, now) = (pause, now + pause);
            assert_eq!(backoff.delay(now), None);
            backoff = backoff.repeat(now);
        }
        assert_eq!(before, limits::REPEAT_DELAY_MAX);
        now += limits::REPEAT_RESET_AFTER;
        assert_eq!(backoff.reported_for(now), None);
        assert_eq!(backoff.repeat(now).delay(now), None);
    }

    /// A row of repetitions, each so many seconds after the one before or as soon as it may be, and how long it is reported.
    fn reported_after(row: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut now = Instant::now();
        let mut backoff = Backoff::start(now);
        for apart in row {
            now += Duration::from_secs(apart).max(backoff.delay(now).unwrap_or_default());
            backoff = backoff.repeat(now);
        }
        Some(backoff.reported_for(now)?.as_secs())
    }

    #[test]
    fn a_row_is_reported_for_as_long_as_one_more_is_to_be_expected() {
        let over = limits::REPEAT_OVER_AFTER.as_secs();
        assert_eq!(reported_after([1; 7]), None);
        assert_eq!(reported_after([1; 8]), Some(over + 2), "deleted some times by hand");
        assert_eq!(reported_after([60; 12]), Some(over + 120), "written every minute");
        assert_eq!(reported_after([240; 12]), Some(over + 480), "written every four minutes");
        assert_eq!(reported_after([0; 30]), Some(limits::REPEAT_RESET_AFTER.as_secs()), "fought over for hours");
    }
}
