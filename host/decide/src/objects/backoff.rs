//! Exponential back-off for what is done again and again although nothing was edited: how often it was done, and how long
//! the next time has to wait. Pure: time is an argument.

use std::time::{Duration, Instant};

use atomix_model::limits;

/// Counts repetitions in a row. A row ends when nothing has been done for [`limits::REPEAT_RESET_AFTER`].
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    times: u32,
    last: Instant,
}

impl Backoff {
    /// A row that begins now: something was done for the first time, which is no repetition yet.
    pub fn start(now: Instant) -> Backoff {
        Backoff { times: 0, last: now }
    }

    /// The row with one more repetition.
    pub fn repeat(self, now: Instant) -> Backoff {
        let times = if self.is_active(now) { self.times } else { 0 };
        Backoff { times: times.saturating_add(1), last: now }
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
        let beyond = self.times.checked_sub(limits::REPEATS_WITHOUT_DELAY)?;
        let pause = limits::RETRY_AFTER_MIN.saturating_mul(2_u32.saturating_pow(beyond + 1)).min(limits::REPEAT_DELAY_MAX);
        self.last.checked_add(pause)?.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }

    /// How long from now the row is reported. None if it has ended, or is too short.
    pub fn reported_for(&self, now: Instant) -> Option<Duration> {
        let end =
            self.last.checked_add(limits::REPEAT_RESET_AFTER).filter(|_| self.times >= limits::REPEATS_WITHOUT_DELAY)?;
        end.checked_duration_since(now).filter(|left| !left.is_zero())
    }
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
}
