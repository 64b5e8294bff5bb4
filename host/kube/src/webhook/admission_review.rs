//! Reads and answers AdmissionReviews. Knows their form only; the verdict on an object comes from the [`Reviewer`], once it
//! is set.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State, rejection::BytesRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::read_permits::ReadPermits;
use atomix_model::contract::{FieldError, plain};
use atomix_model::limits;

/// Path of reviews, as it stands in the configuration in `deploy/`.
pub const REVIEW_PATH: &str = "/validate";
const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The write that is reviewed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Wanted {
    uid: String,
    pub kind: GroupKind,
    /// CREATE or UPDATE.
    pub operation: String,
    pub namespace: String,
    /// The object as it would be.
    pub object: Value,
    /// As it is; null if it is not there yet.
    pub old_object: Value,
}

/// A kind by its name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // its fields explain themselves
pub struct GroupKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// The answer to a review.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why it is refused, field by field.
    pub errors: Vec<FieldError>,
    /// Warnings for the user; the write is admitted all the same.
    pub warnings: Vec<String>,
}

/// Answers reviews; set once the controller can.
pub type Answers = dyn Fn(Wanted) -> BoxFuture<'static, Verdict> + Send + Sync;
/// Gives the verdicts, once it is set; until then every write is admitted.
pub type Reviewer = Arc<OnceLock<Box<Answers>>>;

/// HTTP routes for reviews.
pub fn router(reviewer: Reviewer) -> Router {
    let limit = DefaultBodyLimit::max(limits::REVIEW_BYTES_MAX);
    Router::new().route(REVIEW_PATH, post(review)).layer(limit).with_state((reviewer, ReadPermits::new()))
}

async fn review(
    State((reviewer, permits)): State<(Reviewer, ReadPermits)>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let _permit = match permits.take(&body).await {
        Ok(permit) => permit,
        Err(refused) => return *refused,
    };
    let wanted = match read(&body) {
        Ok(wanted) => wanted,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let verdict = match reviewer.get() {
        Some(answers) => tokio::time::timeout(limits::REVIEW_WAIT, answers(wanted.clone())).await.unwrap_or_default(),
        None => Verdict::default(),
    };
    ([(header::CONTENT_TYPE, "application/json")], answer(&wanted, &verdict).to_string()).into_response()
}

fn read(body: &[u8]) -> Result<Wanted, String> {
    let mut review: Value = serde_json::from_slice(body).map_err(|error| format!("no {KIND}: {error}"))?;
    if (review["apiVersion"].as_str(), review["kind"].as_str()) != (Some(API_VERSION), Some(KIND)) {
        return Err(format!("{API_VERSION} {KIND} is expected"));
    }
    serde_json::from_value(review["request"].take()).map_err(|error| format!("{KIND} has no request: {error}"))
}

/// The answer as the API server reads it: errors as those of a schema, so that kubectl shows them field by field.
fn answer(wanted: &Wanted, verdict: &Verdict) -> Value {
    let mut response = json!({"uid": wanted.uid, "allowed": verdict.errors.is_empty()});
    if !verdict.warnings.is_empty() {
        let warnings: Vec<_> = verdict.warnings.iter().map(|warning| cut(warning)).collect();
        response["warnings"] = json!(warnings);
    }
    if !verdict.errors.is_empty() {
        let name = wanted.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let messages = verdict.errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect::<Vec<_>>();
        let causes = verdict.errors.iter().map(
            |error| json!({"reason": "FieldValueInvalid", "field": plain(&error.path), "message": plain(&error.message)}),
        );
        response["status"] = json!({
            "code": 422,
            "reason": "Invalid",
            "message": plain(&format!("{} {name:?} is invalid: {}", wanted.kind.kind, messages.join("; "))),
            "details": {"group": wanted.kind.group, "kind": wanted.kind.kind, "name": name, "causes": causes.collect::<Vec<_>>()},
        });
    }
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
}

/// A warning as it fits: the API server drops what is over 4,096 bytes together.
fn cut(text: &str) -> String {
    match text.char_indices().nth(limits::WARNING_CHARS_MAX) {
        Some((end, _)) => plain(&format!("{}…", &text[..end])),
        None => plain(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn errors_are_reported_field_by_field_and_warnings_in_one_line() {
        let review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": {
            "uid": "u", "operation": "CREATE", "namespace": "n", "oldObject": null,
            "kind": {"group": "g", "version": "v1", "kind": "K"}, "object": {"metadata": {"name": "a"}}}});
        let wanted = read(review.to_string().as_bytes()).unwrap();
        let taken = answer(&wanted, &Verdict { errors: vec![], warnings: vec!["a\nb".to_owned()] });
        assert_eq!(taken["response"], json!({"uid": "u", "allowed": true, "warnings": ["a b"]}));
        let error = FieldError { path: "spec.a".to_owned(), message: "no".to_owned() };
        let refused = answer(&wanted, &Verdict { errors: vec![error], warnings: vec![] });
        assert_eq!(refused["response"]["allowed"], false);
        assert_eq!(refused["response"]["status"]["message"], "K \"a\" is invalid: spec.a: no");
        assert_eq!(refused["response"]["status"]["details"]["causes"][0]["field"], "spec.a");
        for none in [&b"{}"[..], b"\xff", br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":3}"#] {
            assert!(read(none).is_err());
        }
    }
}
