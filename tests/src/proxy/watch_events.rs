//! The events of a watch, one line of JSON each, and what becomes of them: late, twice, only the last of each object, or none
//! at all before the watch ends.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFate {
    /// It is passed on.
    Pass,
    /// It, and what follows on this watch, is passed on after so long.
    Late(Duration),
    /// It is passed on twice.
    Twice,
    /// Of what comes within so long, only the last event of each object is passed on: what was in between is never seen.
    OnlyLast(Duration),
    /// What comes within so long is lost, and then the watch ends as one that is too old (410): only a new list shows it.
    Expired(Duration),
}

/// What the API server says on a watch whose version it knows no more.
const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;

/// The body of a watch, read line by line.
pub(super) struct Lines {
    body: Body,
    bytes: BytesMut,
    has_expired: bool,
}

impl Lines {
    pub(super) fn new(body: Body) -> Lines {
        Lines { body, bytes: BytesMut::new(), has_expired: false }
    }

    /// The next events to be passed on; none when the watch has ended.
    pub(super) async fn next(&mut self, fate: impl FnOnce() -> EventFate) -> Option<Vec<Bytes>> {
        if self.has_expired {
            return None;
        }
        let line = self.line().await?;
        match fate() {
            EventFate::Pass => Some(vec![line]),
            EventFate::Late(time) => {
                tokio::time::sleep(time).await;
                Some(vec![line])
            }
            EventFate::Twice => Some(vec![line.clone(), line]),
            EventFate::OnlyLast(time) => {
                let (mut lines, until) = (vec![line], tokio::time::Instant::now() + time);
                // Nothing is lost when the time is up: what was read of a line stays.
                while let Ok(Some(line)) = tokio::time::timeout_at(until, self.line()).await {
                    lines.push(line);
                }
                Some(only_last(lines))
            }
            EventFate::Expired(time) => {
                let until = tokio::time::Instant::now() + time;
                while let Ok(Some(_)) = tokio::time::timeout_at(until, self.line()).await {}
                self.has_expired = true;
                Some(vec![Bytes::from(format!("{EXPIRED}\n"))])
            }
        }
    }

    /// The next line with its end; none when the watch has ended.
    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(at) = self.bytes.iter().position(|byte| *byte == b'\n') {
                return Some(self.bytes.split_to(at + 1).freeze());
            }
            let frame = self.body.frame().await?.ok()?;
            self.bytes.extend_from_slice(&frame.into_data().ok()?);
        }
    }
}

/// The last event of each object, in their order.
fn only_last(lines: Vec<Bytes>) -> Vec<Bytes> {
    let uid = |line: &Bytes| {
        let event: Value = serde_json::from_slice(line).ok()?;
        event.pointer("/object/metadata/uid")?.as_str().map(str::to_owned)
    };
    let uids: Vec<Option<String>> = lines.iter().map(uid).collect();
    let is_last = |at: usize| uids[at].is_none() || !uids[at + 1..].contains(&uids[at]);
    let lasts: Vec<bool> = (0..lines.len()).map(is_last).collect();
    lines.into_iter().zip(lasts).filter_map(|(line, last)| last.then_some(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_object_only_its_last_event_is_left() {
        let event =
            |kind: &str, uid: &str| Bytes::from(format!(r#"{{"type":"{kind}","object":{{"metadata":{{"uid":"{uid}"}}}}}}"#));
        let bookmark = Bytes::from(r#"{"type":"BOOKMARK","object":{"metadata":{}}}"#);
        let lines = vec![event("ADDED", "a"), event("ADDED", "b"), bookmark.clone(), event("DELETED", "a")];
        assert_eq!(only_last(lines), [event("ADDED", "b"), bookmark, event("DELETED", "a")]);
    }
}
