//! What random tests begin with, so that what one has found can be reproduced. Knows no test.

/// The seed: `ATOMIX_FUZZ_SEED`, else always the same, so that a change is judged by itself and not by luck. `make soak` sets another in
/// each round and prints it.
pub fn seed() -> u64 {
    number("ATOMIX_FUZZ_SEED")
}

/// How many times as many inputs as usual are tried: `ATOMIX_FUZZ_TIMES`, else once.
pub fn times() -> u32 {
    u32::try_from(number("ATOMIX_FUZZ_TIMES")).unwrap_or(u32::MAX)
}

/// The number in an environment variable, else 1.
fn number(variable: &str) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1)
}
