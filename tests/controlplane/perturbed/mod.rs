//! One life of a database, walked again and again while its controller is killed, misled and cut off: each step must end in the same
//! objects as an undisturbed walk, text for text. What may differ by nature (`dump`) is left out: uids, resourceVersions, times, addresses.
//!
//! `ATOMIX_FUZZ_SEED=N` walks with that seed alone; `make soak` goes on with other seeds until something differs.

mod faults;
mod kills;
mod replacements;
mod restore;
mod stale_views;
mod walk;
