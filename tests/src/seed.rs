//! What random tests begin with, so that what one has found can be reproduced. Knows no test.

use std::sync::atomic::{AtomicU64, Ordering};

/// The seed: `ATOMIX_FUZZ_SEED`, else always the same, so that a change is judged by itself and not by luck. `make soak` sets another in
/// each round and prints it.
pub fn seed() -> u64 {
    number("ATOMIX_FUZZ_SEED")
}

/// The seeds to try, one after the other: the one that is set, else these.
pub fn seeds(usual: &[u64]) -> Vec<u64> {
    match std::env::var_os("ATOMIX_FUZZ_SEED") {
        Some(_) => vec![seed()],
        None => usual.to_vec(),
    }
}

/// How many times as many inputs as usual are tried: `ATOMIX_FUZZ_TIMES`, else once.
pub fn times() -> u32 {
    u32::try_from(number("ATOMIX_FUZZ_TIMES")).unwrap_or(u32::MAX)
}

/// The number in an environment variable, else 1.
fn number(variable: &str) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1)
}

/// Numbers that follow from a seed, for callers on any thread: which of them gets which is up to their order.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// Those of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    /// The next number below `end` (SplitMix64).
    pub fn below(&self, end: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut it = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % end
    }

    /// One of these, of which there is at least one.
    pub fn one_of<'a, T>(&self, these: &'a [T]) -> &'a T {
        &these[self.below(these.len() as u64) as usize]
    }
}
