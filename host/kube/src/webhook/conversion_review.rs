//! Reads and answers ConversionReviews. Knows their form only; objects are converted by [`atomix_model::crd::conversion`].

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, DefaultBodyLimit, FromRequest as _, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::read_permits::ReadPermits;
use atomix_model::crd::conversion;
use atomix_model::crd::definitions::CONVERT_PATH;
use atomix_model::limits::{REVIEW_BYTES_MAX, REVIEW_BYTES_SMALL, REVIEWS_LARGE_MAX};

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

/// Answers one review: all objects converted, or none and why, named by object and field. The error is for a body that is no
/// review.
pub fn answer(body: &[u8]) -> Result<Vec<u8>, String> {
    let review: Review<Request> = serde_json::from_slice(body).map_err(|it| format!("no {KIND}: {it}"))?;
    if (review.api_version.as_str(), review.kind.as_str()) != (API_VERSION, KIND) {
        return Err(format!("{} {} is not accepted: {API_VERSION} {KIND} is", review.api_version, review.kind));
    }
    let Some(request) = review.request else {
        return Err(format!("{KIND} has no request"));
    };
    let wanted = request.desired_api_version;
    let converted: Result<Vec<_>, _> = request.objects.into_iter().map(|it| conversion::convert(it, &wanted)).collect();
    let (converted_objects, result) = match converted {
        Ok(objects) => (objects, Outcome { status: "Success", message: None }),
        Err(message) => {
            tracing::warn!(%message, "a database could not be converted");
            (Vec::new(), Outcome { status: "Failure", message: Some(message) })
        }
    };
    let answer =
        Answer { api_version: API_VERSION, kind: KIND, response: Converted { uid: request.uid, converted_objects, result } };
    serde_json::to_vec(&answer).map_err(|it| format!("could not write the answer: {it}"))
}

/// HTTP routes for conversion.
pub fn router() -> Router {
    let large = Arc::new(Semaphore::new(REVIEWS_LARGE_MAX));
    let state = (large, ReadPermits::new());
    Router::new().route(CONVERT_PATH, post(convert)).layer(DefaultBodyLimit::max(REVIEW_BYTES_MAX)).with_state(state)
}

async fn convert(State((large, permits)): State<(Arc<Semaphore>, ReadPermits)>, request: extract::Request) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    let _place = match length {
        Some(0..=REVIEW_BYTES_SMALL) => None,
        _ => large.acquire().await.ok(), // the request's time is bounded, and with it this wait
    };
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(refused) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the review is over {REVIEW_BYTES_MAX} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
        }
        Err(refused) => return refused.into_response(),
    };
    let _permit = match permits.take(&body).await {
        Ok(permit) => permit,
        Err(refused) => return *refused,
    };
    match answer(&body) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<T> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Converted,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Converted {
    uid: String,
    converted_objects: Vec<Value>,
    result: Outcome,
}

#[derive(Serialize)]
struct Outcome {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn answered(objects: Value) -> Value {
        let review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": {
            "uid": "u-1", "desiredAPIVersion": "cloud.atomix.io/v1beta2", "objects": objects}});
        serde_json::from_slice(&answer(review.to_string().as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn every_object_is_converted_and_the_uid_comes_back() {
        let new = |name| json!({"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "metadata": {"name": name}});
        let old = |name| json!({"apiVersion": "cloud.atomix.io/v1beta2", "kind": "Database", "metadata": {"name": name}});
        assert_eq!(
            answered(json!([new("a"), new("b")])),
            json!({"apiVersion": API_VERSION, "kind": KIND, "response": {
                "uid": "u-1", "convertedObjects": [old("a"), old("b")], "result": {"status": "Success"}}})
        );
    }

    #[test]
    fn one_that_cannot_be_is_named() {
        let answered = answered(json!([{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": "p"}}]));
        assert_eq!(answered["response"]["result"]["status"], "Failure");
        assert_eq!(answered["response"]["uid"], "u-1");
        let message = answered["response"]["result"]["message"].as_str().unwrap();
        assert!(message.starts_with("Pod n/p: cannot convert from apiVersion v1"), "{message}");
    }

    #[test]
    fn what_is_no_review_is_refused_with_the_reason() {
        for (body, message) in [
            ("{}", "  is not accepted: apiextensions.k8s.io/v1 ConversionReview is"),
            (r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview"}"#, "ConversionReview has no request"),
        ] {
            assert_eq!(answer(body.as_bytes()).unwrap_err(), message);
        }
        assert!(answer(b"\xff").unwrap_err().starts_with("no ConversionReview: "));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..200usize) {
            let _ = answer(&bytes);
            let review = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"cloud.atomix.io/v1beta2","objects":[{"apiVersion":"cloud.atomix.io/v1beta3","kind":"Database","spec":{"partitions":3}}]}}"#;
            let mut broken = review.to_vec();
            for (place, byte) in broken.iter_mut().skip(at).zip(bytes.iter().take(3)) { *place = *byte }
            let _ = answer(&broken);
        }
    }
}
