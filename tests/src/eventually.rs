//! Waiting for a condition, with a deadline and a reason when it does not come. Knows nothing of what is waited for.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two looks at a condition, at least and at most; in between as long as a look takes: what is looked at needs the
/// processors too.
const EVERY: Duration = Duration::from_millis(100);
const EVERY_MAX: Duration = Duration::from_millis(500);

/// Names in the environment the seconds that anything may take, if less than a test allows: for tests that are to fail.
pub const PATIENCE: &str = "ATOMIX_PATIENCE";

/// What may take so long at most, cut down to [`PATIENCE`].
pub fn patient(limit: Duration) -> Duration {
    let patience = std::env::var(PATIENCE).ok().and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
    patience.map_or(limit, |patience| limit.min(patience))
}

/// What a look at a condition found.
#[derive(Debug)]
pub enum Eventually<T> {
    /// It holds, and this is what was waited for.
    Now(T),
    /// It does not hold yet, because of this.
    NotYet(String),
    /// It will not come any more, because of this.
    Never(String),
}

impl Eventually<()> {
    /// Holds if `holds`; else `why` is what was seen instead.
    pub fn when(holds: bool, why: impl FnOnce() -> String) -> Eventually<()> {
        if holds { Eventually::Now(()) } else { Eventually::NotYet(why()) }
    }
}

/// Looks until the condition holds, at most for `limit`, or for what [`PATIENCE`] says. An error of a look counts as "not yet": the API
/// server may be busy.
pub async fn eventually<T, L, F>(limit: Duration, what: &str, mut look: L) -> Result<T>
where
    L: FnMut() -> F,
    F: Future<Output = Result<Eventually<T>>>,
{
    let limit = patient(limit);
    let start = Instant::now();
    let mut seen = String::new();
    loop {
        let (left, look_began) = (limit.saturating_sub(start.elapsed()), Instant::now());
        seen = match tokio::time::timeout(left.max(EVERY), look()).await {
            Ok(Ok(Eventually::Now(value))) => return Ok(value),
            Ok(Ok(Eventually::Never(why))) => bail!("never: {what}: {why}"),
            Ok(Ok(Eventually::NotYet(why))) => why,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) if seen.is_empty() => "no answer".to_owned(),
            Err(_) => seen, // what the look before said
        };
        if start.elapsed() >= limit {
            bail!("not within {} s: {what}: {seen}", limit.as_secs());
        }
        tokio::time::sleep(look_began.elapsed().clamp(EVERY, EVERY_MAX)).await;
    }
}
