//! One life of a database, walked again and again while its controller is killed, misled and cut off: each step must end in the same
//! objects as an undisturbed walk, text for text. What may differ by nature (`dump`) is left out: uids, resourceVersions, times, addresses.
//!
//! `ATOMIX_FUZZ_SEED=N` walks with that seed alone; `make soak` goes on with other seeds until something differs.

mod dump;
mod faults;
mod kills;
mod replacements;
mod restore;
mod stale_views;
mod walk;

/// The seeds to walk with: the one that is set, or these.
fn seeds(usual: &[u64]) -> Vec<u64> {
    match std::env::var_os("ATOMIX_FUZZ_SEED") {
        Some(_) => vec![harness::seed::seed()],
        None => usual.to_vec(),
    }
}

/// Numbers that follow from a seed, for callers on any thread: which of them gets which is up to their order.
struct Dice(std::sync::atomic::AtomicU64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(std::sync::atomic::AtomicU64::new(seed))
    }

    /// The next number below `end` (SplitMix64).
    fn below(&self, end: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut it = self.0.fetch_add(STEP, std::sync::atomic::Ordering::Relaxed).wrapping_add(STEP);
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % end
    }
}
