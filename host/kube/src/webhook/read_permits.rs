//! When a review may be read: a small one at once, one that takes much memory once it is read when others have been
//! answered, whichever client sends it. Knows no kind of review.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit};

use atomix_model::json_text;
use atomix_model::limits::{REVIEW_HEAP_BYTES_MAX, REVIEW_HEAP_BYTES_SMALL, REVIEWS_READ_MAX};

/// The permits for the reviews of one path.
#[derive(Clone)]
pub struct ReadPermits(Arc<Semaphore>);

impl ReadPermits {
    /// As many permits at a time as the limit allows.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(REVIEWS_READ_MAX)))
    }

    /// Waits for a permit to read a review, which holds until it is dropped. None is needed for a small one; one that would
    /// take more than any may is refused. The time of a request is bounded, and with it this wait.
    pub async fn take(&self, body: &[u8]) -> Result<Option<SemaphorePermit<'_>>, Box<Response>> {
        let heap = json_text::heap(body);
        if heap <= REVIEW_HEAP_BYTES_SMALL {
            return Ok(None);
        }
        if heap <= REVIEW_HEAP_BYTES_MAX {
            return Ok(self.0.acquire().await.ok());
        }
        let message = format!("the review would take {heap} bytes of memory; at most {REVIEW_HEAP_BYTES_MAX} are accepted");
        Err(Box::new((StatusCode::PAYLOAD_TOO_LARGE, message).into_response()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of as many objects, each with one field.
    fn objects(count: usize) -> Vec<u8> {
        format!("[{}0]", r#"{"":0},"#.repeat(count)).into_bytes()
    }

    #[tokio::test]
    async fn what_takes_much_memory_waits_for_a_permit_and_what_takes_too_much_is_refused() {
        let permits = ReadPermits::new();
        assert!(permits.take(&objects(1000)).await.expect("it is small").is_none());
        let large = objects(10_000);
        let first = permits.take(&large).await.expect("it is large").expect("it has a permit");
        let _second = permits.take(&large).await.expect("it is large").expect("it has a permit");
        let mut third = Box::pin(permits.take(&large));
        assert!(futures::poll!(&mut third).is_pending(), "two are read");
        assert!(permits.take(&objects(1000)).await.expect("it is small").is_none(), "and small ones beside them");
        drop(first);
        assert!(third.await.expect("it is large").is_some());
        let refused = permits.take(&objects(200_000)).await.expect_err("it is refused");
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
