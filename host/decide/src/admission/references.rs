//! What objects beside pods reach: what they select, route to, limit or are filled from. Knows the kinds that Kubernetes
//! itself brings and those of its gateways and snapshots; other kinds are listed as unchecked where they are granted.

use serde_json::{Map, Value};

use super::ownership::{Asked, Own, group_of};
use super::{empty, is_set, items, text};

type Checked = Result<(), String>;

/// Kinds of which it is known what they do to others. Gateways' routes are known by how they are called.
const KNOWN: [(&str, &str); 16] = [
    ("", "ConfigMap"),
    ("", "PersistentVolumeClaim"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("", "Service"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("snapshot.storage.k8s.io", "VolumeSnapshot"),
];

/// Whether objects of a kind are restricted to what is of their own database.
pub(super) fn is_known(group: &str, kind: &str) -> bool {
    KNOWN.contains(&(group, kind)) || (group == "gateway.networking.k8s.io" && kind.ends_with("Route"))
}

/// Checks what an object of a kind that is known reaches.
pub(super) fn check(group: &str, kind: &str, manifest: &Value, own: &Own<'_>, asked: &mut Asked) -> Checked {
    let spec = manifest.get("spec").unwrap_or(&Value::Null);
    match (group, kind) {
        ("", "Service") => service(manifest, spec, own, asked),
        ("", "PersistentVolumeClaim") => claim(spec, "spec", own, asked),
        ("", "ReplicationController") => selector("spec.selector", own.is_labelled(spec.get("selector")), own),
        ("apps", "ControllerRevision") => Ok(()),
        ("apps", _) => {
            selector("spec.selector", own.selects(spec.get("selector")), own)?;
            for (at, template) in items(spec, "volumeClaimTemplates") {
                claim(
                    template.get("spec").unwrap_or(&Value::Null),
                    &format!("spec.volumeClaimTemplates[{at}].spec"),
                    own,
                    asked,
                )?;
            }
            Ok(())
        }
        ("batch", "Job") => job(spec, "spec", own),
        ("batch", "CronJob") => job(spec.pointer("/jobTemplate/spec").unwrap_or(&Value::Null), "spec.jobTemplate.spec", own),
        ("networking.k8s.io", "NetworkPolicy") => selector("spec.podSelector", own.selects(spec.get("podSelector")), own),
        ("policy", "PodDisruptionBudget") => selector("spec.selector", own.selects(spec.get("selector")), own),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let of = |field: &str| text(spec, &format!("/scaleTargetRef/{field}")).to_owned();
            named(own, (group_of(&of("apiVersion")), &of("kind")), &of("name"), "spec.scaleTargetRef")
        }
        ("networking.k8s.io", "Ingress") => ingress(manifest, spec, own, asked),
        ("gateway.networking.k8s.io", _) => route(manifest, kind, spec, own, asked),
        ("snapshot.storage.k8s.io", "VolumeSnapshot") => snapshot(spec, own),
        _ => Ok(()),
    }
}

fn selector(path: &str, is_own: bool, own: &Own<'_>) -> Checked {
    if is_own { Ok(()) } else { Err(format!("{path} reaches what is of others: {}", own.expected())) }
}

fn named(own: &Own<'_>, (group, kind): (&str, &str), name: &str, path: &str) -> Checked {
    match own.has(group, kind, name) {
        true => Ok(()),
        false => Err(format!("{path} names {kind} {name:?}, which is not of this plan, nor does the class name it")),
    }
}

fn job(spec: &Value, path: &str, own: &Own<'_>) -> Checked {
    match spec.get("selector").is_none_or(empty) {
        true => Ok(()), // Kubernetes makes one
        false => selector(&format!("{path}.selector"), own.selects(spec.get("selector")), own),
    }
}

fn service(manifest: &Value, spec: &Value, own: &Own<'_>, asked: &mut Asked) -> Checked {
    for field in ["externalIPs", "loadBalancerIP"] {
        if spec.get(field).is_some_and(|value| !empty(value)) {
            return Err(format!("spec.{field} takes addresses that may belong to others"));
        }
    }
    if spec.get("selector").is_some_and(|labels| !empty(labels)) {
        selector("spec.selector", own.is_labelled(spec.get("selector")), own)?;
    }
    let kind = text(spec, "/type");
    match kind {
        "" | "ClusterIP" if spec.get("type").is_none_or(|kind| kind.is_string() || kind.is_null()) => {}
        "ExternalName" => {
            let name = text(spec, "/externalName");
            if !own.names(name) {
                return Err(format!("spec.externalName is {name:?}, which the class does not name"));
            }
            asked.insert("external-name");
        }
        kind if own.names(kind) => {
            asked.insert("service-type");
        }
        _ => {
            return Err(format!(
                "spec.type is {}, which takes ports of the nodes or addresses outside; the class does not ask for it",
                spec.get("type").unwrap_or(&Value::Null)
            ));
        }
    }
    for (at, port) in items(spec, "ports") {
        let number = port.get("nodePort").unwrap_or(&Value::Null);
        if is_set(number) && !own.names(&number.to_string()) {
            return Err(format!("spec.ports[{at}].nodePort takes a port of the nodes that the class does not name"));
        }
    }
    for field in ["healthCheckNodePort", "loadBalancerClass"] {
        let value = spec.get(field).unwrap_or(&Value::Null);
        if is_set(value) && !own.holds(value) {
            return Err(format!("spec.{field} is {value}, which the class does not name"));
        }
    }
    let all = !["", "ClusterIP"].contains(&kind);
    annotations(manifest, own, asked, |key| all || key.starts_with(EXTERNAL_DNS))
}

/// Begins annotations by which a Service or an Ingress is given names in the DNS of others.
const EXTERNAL_DNS: &str = "external-dns.alpha.kubernetes.io/";

/// Annotations of what routes: other controllers act on them, so that the class must have them word by word.
fn annotations(manifest: &Value, own: &Own<'_>, asked: &mut Asked, concerns: impl Fn(&str) -> bool) -> Checked {
    let there = manifest.pointer("/metadata/annotations").and_then(Value::as_object);
    let orders = |key: &str| concerns(key) && !key.split('/').next().unwrap_or_default().ends_with("cloud.atomix.io");
    for (key, value) in there.into_iter().flatten().filter(|(key, _)| orders(key)) {
        if !own.pairs(key, value) {
            return Err(format!(
                "metadata.annotations holds {key:?}, which tells others how to route; the class does not have it"
            ));
        }
        asked.insert("annotations");
    }
    Ok(())
}

fn host(own: &Own<'_>, host: &str, path: &str) -> Checked {
    match own.names(host) {
        true => Ok(()),
        false if host.is_empty() => Err(format!("{path} is missing, so that all hosts would be routed")),
        false => Err(format!("{path} is {host:?}, which the class does not name")),
    }
}

fn ingress(manifest: &Value, spec: &Value, own: &Own<'_>, asked: &mut Asked) -> Checked {
    if spec.get("defaultBackend").is_some_and(is_set) {
        return Err("spec.defaultBackend takes what is for all hosts".to_owned());
    }
    if items(spec, "rules").is_empty() {
        return Err("spec.rules is missing, so that all hosts would be routed".to_owned());
    }
    for (at, rule) in items(spec, "rules") {
        let path = format!("spec.rules[{at}]");
        host(own, text(rule, "/host"), &format!("{path}.host"))?;
        for (_, entry) in rule.get("http").map(|http| items(http, "paths")).unwrap_or_default() {
            match entry.pointer("/backend/resource").filter(|it| is_set(it)) {
                Some(it) => {
                    let kind = (text(it, "/apiGroup"), text(it, "/kind"));
                    named(own, kind, text(it, "/name"), &format!("{path}.http.paths"))?;
                }
                None => {
                    let name = text(entry, "/backend/service/name");
                    named(own, ("", "Service"), name, &format!("{path}.http.paths"))?;
                }
            }
        }
    }
    for (at, tls) in items(spec, "tls") {
        let path = format!("spec.tls[{at}]");
        for (_, name) in items(tls, "hosts") {
            host(own, name.as_str().unwrap_or_default(), &format!("{path}.hosts"))?;
        }
        let secret = text(tls, "/secretName");
        if !secret.is_empty() && !own.names(secret) {
            return Err(format!("{path}.secretName is {secret:?}, which the class does not name"));
        }
    }
    let class = text(spec, "/ingressClassName");
    if !class.is_empty() && !own.names(class) {
        return Err(format!("spec.ingressClassName is {class:?}, which the class does not name"));
    }
    asked.insert("hosts");
    annotations(manifest, own, asked, |_| true)
}

fn route(manifest: &Value, kind: &str, spec: &Value, own: &Own<'_>, asked: &mut Asked) -> Checked {
    if !kind.ends_with("Route") {
        return Err(format!("kind {kind} is for those who run the gateways; no plugin may write it"));
    }
    let hosts = items(spec, "hostnames");
    if hosts.is_empty() && !["TCPRoute", "UDPRoute"].contains(&kind) {
        return Err("spec.hostnames is missing, so that all hosts would be routed".to_owned());
    }
    for (at, name) in hosts {
        host(own, name.as_str().unwrap_or_default(), &format!("spec.hostnames[{at}]"))?;
    }
    for (at, parent) in items(spec, "parentRefs") {
        let name = text(parent, "/name");
        let place = text(parent, "/namespace");
        if !own.names(name) || !(["", own.namespace].contains(&place) || own.names(place)) {
            return Err(format!("spec.parentRefs[{at}] names the gateway {name:?}, which the class does not name"));
        }
    }
    let mut backends = Vec::new();
    referred(spec, &mut backends);
    for backend in backends {
        if !["", own.namespace].contains(&text(backend, "/namespace")) {
            return Err("spec.rules routes to another namespace".to_owned());
        }
        let kind = Some(text(backend, "/kind")).filter(|kind| !kind.is_empty()).unwrap_or("Service");
        named(own, (text(backend, "/group"), kind), text(backend, "/name"), "spec.rules")?;
    }
    asked.insert("hosts");
    annotations(manifest, own, asked, |_| true)
}

/// What a route sends or copies requests to, wherever it stands.
fn referred<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                match key.as_str() {
                    "backendRefs" => found.extend(inner.as_array().into_iter().flatten()),
                    "backendRef" | "extensionRef" => found.push(inner),
                    "parentRefs" => continue,
                    _ => {}
                }
                referred(inner, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| referred(item, found)),
        _ => {}
    }
}

fn snapshot(spec: &Value, own: &Own<'_>) -> Checked {
    let claim = text(spec, "/source/persistentVolumeClaimName");
    let content = text(spec, "/source/volumeSnapshotContentName");
    if !content.is_empty() && !own.names(content) {
        return Err(format!("spec.source.volumeSnapshotContentName is {content:?}, which the class does not name"));
    }
    if claim.is_empty() { Ok(()) } else { named(own, ("", "PersistentVolumeClaim"), claim, "spec.source") }
}

/// Checks what a claim is filled from, and which volume it asks for by name.
pub(super) fn claim(spec: &Value, path: &str, own: &Own<'_>, asked: &mut Asked) -> Checked {
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.get(field).filter(|source| is_set(source)) else { continue };
        if !["", own.namespace].contains(&text(source, "/namespace")) && !own.claims(field, source) {
            return Err(format!("{path}.{field} is of another namespace, and the class does not have it"));
        }
        if !own.claims(field, source) {
            let kind = (text(source, "/apiGroup"), text(source, "/kind"));
            named(own, kind, text(source, "/name"), &format!("{path}.{field}"))?;
        }
        asked.insert("claim-source");
    }
    for field in ["volumeName", "selector"] {
        let Some(value) = spec.get(field).filter(|value| !empty(value) && is_set(value)) else { continue };
        if !own.claims(field, value) {
            return Err(format!("{path}.{field} takes a volume that the class does not name"));
        }
        asked.insert("claim-source");
    }
    Ok(())
}

/// Labels by which others would take an object for something of theirs.
pub(super) fn labels(meta: &Map<String, Value>) -> Checked {
    const OF_OTHERS: [&str; 3] = ["plugin", "revision-of", "aggregate-to-controller"];
    let mut keys = meta.get("labels").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let taken = |key: &&String| key.strip_prefix("storage.cloud.atomix.io/").is_some_and(|name| OF_OTHERS.contains(&name));
    match keys.find(taken) {
        Some(key) => Err(format!("metadata.labels holds {key}, by which the controller finds its plugins")),
        None => Ok(()),
    }
}
