//! Which requests the API server answered, read from its audit log. Sends nothing but its own marks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::controlplane::{ControlPlane, get};
use crate::eventually::{Eventually, eventually};

/// What the API server records: the user, the request and the response code, without bodies.
pub const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// The audit log of one control plane.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A moment in the log; the default one is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One request that was answered, or a watch that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Request {
    /// The user that the API server took it for, e.g. `system:serviceaccount:kube-system:atomix-controller`.
    pub user: String,
    /// The client's User-Agent.
    pub user_agent: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; of other paths the HTTP method.
    pub verb: String,
    /// API group; empty for the core group and for other paths.
    pub group: String,
    /// Plural with its sub-resource, e.g. `databases/status`; empty for other paths.
    pub resource: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name; empty for lists.
    pub name: String,
    /// Path and query.
    pub uri: String,
    pub code: u16,
}

impl Request {
    /// Whether it asked for a change.
    pub fn writes(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Audit {
        Audit { path }
    }

    /// This moment: every request that was answered before it lies before it in the log.
    pub async fn mark(&self, plane: &ControlPlane) -> Result<Mark> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let sign = format!("/version?mark={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = plane.client().await?;
        client.request_text(get(&sign)?).await.context("could not leave a mark in the audit log")?;
        let sign = sign.replace('&', "\\u0026");
        eventually(Duration::from_secs(60), "the mark is in the audit log", || async {
            let text = self.read(0)?;
            Ok(match text.find(&sign) {
                Some(at) => Eventually::Now(Mark((at + text[at..].find('\n').unwrap_or(0)) as u64)),
                None => Eventually::NotYet(format!("{} bytes without it", text.len())),
            })
        })
        .await
    }

    /// The requests after a mark up to now, in the order of their answers. Long watches count when they open.
    pub async fn since(&self, plane: &ControlPlane, from: Mark) -> Result<Vec<Request>> {
        let to = self.mark(plane).await?;
        self.between(from, to)
    }

    /// The requests between two marks, but for those of leases.
    pub fn between(&self, from: Mark, to: Mark) -> Result<Vec<Request>> {
        let text = self.read(from.0)?;
        let length = usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX).min(text.len());
        let mut requests = parsed(&text[..length])?;
        requests.retain(|request| !request.uri.starts_with("/version?mark="));
        // A settled cluster is silent beyond open watches and leases: counts of requests leave these out. Refused ones stay,
        // so that a right that is missing is seen.
        requests.retain(|request| request.resource != "leases" || matches!(request.code, 401 | 403));
        Ok(requests)
    }

    fn read(&self, from: u64) -> Result<String> {
        lines(&self.path, from)
    }
}

/// All requests of a log, in the order of their answers.
pub fn read(log: &Path) -> Result<Vec<Request>> {
    parsed(&lines(log, 0)?)
}

fn lines(log: &Path, from: u64) -> Result<String> {
    let what = || format!("could not read {}", log.display());
    let mut file = std::fs::File::open(log).with_context(what)?;
    file.seek(SeekFrom::Start(from)).with_context(what)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(what)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1); // the last line may be half written
    bytes.truncate(whole);
    String::from_utf8(bytes).with_context(what)
}

/// What each line of an audit log begins with.
const BEGIN: &str = r#"{"kind":"Event""#;

fn parsed(text: &str) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        // An API server that was killed leaves half a line, at whose end the next one begins.
        let line = line.rfind(BEGIN).map_or(line, |last| &line[last..]);
        let line: Line = serde_json::from_str(line).with_context(|| format!("a line of the audit log: {line}"))?;
        let (watch, opened) = (line.verb == "watch", line.stage == "ResponseStarted");
        // Other long answers are logged twice as well; they count once, when they end. A refused watch never opens.
        let refused = line.response_status.code >= 400;
        if (watch && (opened || refused)) || (!watch && !opened) {
            requests.push(line.into_request());
        }
    }
    Ok(requests)
}

/// A table of requests, most frequent first: number, user, request. For messages.
pub fn table(requests: &[Request]) -> String {
    let mut counts: BTreeMap<(&str, &str, &str, u16), usize> = BTreeMap::new();
    for request in requests {
        *counts.entry((&request.user, &request.verb, &request.resource, request.code)).or_default() += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = String::new();
    for ((user, verb, resource, code), count) in rows {
        let _ = writeln!(text, "{count:>6}  {code}  {verb:<10} {resource:<28} {user}");
    }
    text
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl Line {
    fn into_request(self) -> Request {
        let ObjectRef { api_group: group, resource, subresource, namespace, name } = self.object_ref;
        let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
        let (user, user_agent, code) = (self.user.username, self.user_agent, self.response_status.code);
        Request { user, user_agent, verb: self.verb, group, resource, namespace, name, uri: self.uri, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_of_a_server_that_was_killed_hides_no_other() {
        let line = |verb: &str| {
            format!(
                r#"{{"kind":"Event","stage":"ResponseComplete","verb":"{verb}","requestURI":"/x","user":{{"username":"u"}}}}"#
            )
        };
        let text = format!("{}\n{}{}\n", line("get"), &line("patch")[..60], line("create"));
        let verbs: Vec<_> = parsed(&text).unwrap().into_iter().map(|request| request.verb).collect();
        assert_eq!(verbs, ["get", "create"]);
        assert!(parsed("{\"kind\":\"Event\",\n").is_err(), "a line that is no JSON is no line that was cut off");
    }
}
