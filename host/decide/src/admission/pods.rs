//! What may stand in a pod's spec. Knows no plan and no object around it.

use serde_json::{Value, json};

use super::ownership::{Asked, Own};
use super::{empty, is_set, items, references, text};

/// Sources of volumes that a pod may have. `csi` is one of the node's own drivers, so that the class must have it word by word.
const VOLUMES: [&str; 9] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];
/// Taints that every pod bears for a while.
const BORNE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Labels by which pods ask for the machines that their images are for.
const MACHINES: [&str; 2] = ["kubernetes.io/os", "kubernetes.io/arch"];

/// What a tenant of the cluster may put into a pod, and no more: Kubernetes' own Baseline, no identity, and nothing of others that the
/// class does not name.
pub fn check(spec: &Value, own: &Own<'_>, asked: &mut Asked) -> Result<(), String> {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field).is_some_and(is_set) {
            return Err(format!("{field} shares the node's own namespace"));
        }
    }
    if spec.get("automountServiceAccountToken") != Some(&json!(false)) {
        return Err("automountServiceAccountToken must be false: pods of a storage have no business with the API".to_owned());
    }
    for field in ["serviceAccountName", "serviceAccount"] {
        let account = spec.get(field).unwrap_or(&Value::Null);
        if is_set(account) && *account != "default" {
            return Err(format!("{field} is {account}, which was not granted"));
        }
    }
    if spec.get("nodeName").is_some_and(is_set) {
        return Err("nodeName goes past the scheduler; a nodeSelector does not".to_owned());
    }
    for (index, volume) in items(spec, "volumes") {
        check_volume(volume, own, asked).map_err(|what| format!("volumes[{index}].{what}"))?;
    }
    placed(spec, own, asked)?;
    for (index, secret) in items(spec, "imagePullSecrets") {
        refers(own, "Secret", secret.get("name"), &format!("imagePullSecrets[{index}].name"))?;
    }
    for (index, claim) in items(spec, "resourceClaims") {
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            let name = claim.get(field).filter(|name| is_set(name));
            name.map_or(Ok(()), |name| {
                refers(own, "ResourceClaim", Some(name), &format!("resourceClaims[{index}].{field}"))
            })?;
        }
    }
    security(spec.get("securityContext"), "securityContext")?;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(spec, list) {
            check_container(container, &format!("{list}[{index}]"), own)?;
        }
    }
    Ok(())
}

fn check_container(container: &Value, path: &str, own: &Own<'_>) -> Result<(), String> {
    security(container.get("securityContext"), &format!("{path}.securityContext"))?;
    for handler in HANDLERS {
        let host = |how: &&str| container.pointer(&format!("{handler}/{how}/host")).is_some_and(is_set);
        if ["httpGet", "tcpSocket"].iter().any(host) {
            let field = handler.trim_start_matches('/').replace('/', ".");
            return Err(format!("{path}.{field} has a host: the node may be sent to its own pod only"));
        }
    }
    for (port, entry) in items(container, "ports") {
        if entry.get("hostPort").is_some_and(is_set) {
            return Err(format!("{path}.ports[{port}].hostPort takes a port of the node"));
        }
    }
    for (at, variable) in items(container, "env") {
        for (field, kind) in [("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")] {
            let of = variable.pointer(&format!("/valueFrom/{field}")).filter(|of| is_set(of));
            of.map_or(Ok(()), |of| refers(own, kind, of.get("name"), &format!("{path}.env[{at}].valueFrom.{field}.name")))?;
        }
    }
    for (at, source) in items(container, "envFrom") {
        for (field, kind) in [("secretRef", "Secret"), ("configMapRef", "ConfigMap")] {
            let of = source.get(field).filter(|of| is_set(of));
            of.map_or(Ok(()), |of| refers(own, kind, of.get("name"), &format!("{path}.envFrom[{at}].{field}.name")))?;
        }
    }
    Ok(())
}

fn check_volume(volume: &Value, own: &Own<'_>, asked: &mut Asked) -> Result<(), String> {
    for (field, source) in volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null()) {
        let name = |field: &str| source.get(field);
        match field.as_str() {
            "name" => {}
            "hostPath" => return Err("hostPath reaches into the node".to_owned()),
            "secret" => refers(own, "Secret", name("secretName"), "secret.secretName")?,
            "configMap" => refers(own, "ConfigMap", name("name"), "configMap.name")?,
            "persistentVolumeClaim" => {
                refers(own, "PersistentVolumeClaim", name("claimName"), "persistentVolumeClaim.claimName")?;
            }
            "projected" => {
                for (at, entry) in items(source, "sources") {
                    projected(entry, own).map_err(|what| format!("projected.sources[{at}].{what}"))?;
                }
            }
            "ephemeral" => {
                let spec = source.pointer("/volumeClaimTemplate/spec").unwrap_or(&Value::Null);
                references::claim(spec, "ephemeral.volumeClaimTemplate.spec", own, asked)?;
            }
            "csi" if own.holds(source) => drop(asked.insert("csi")),
            "csi" => return Err("csi is a driver of the node, with parameters that the class does not have".to_owned()),
            known if VOLUMES.contains(&known) => {}
            other => return Err(format!("{other} is not accepted as a volume; {} are", VOLUMES.join(", "))),
        }
    }
    Ok(())
}

fn projected(source: &Value, own: &Own<'_>) -> Result<(), String> {
    for (field, of) in source.as_object().into_iter().flatten().filter(|(_, of)| !of.is_null()) {
        match field.as_str() {
            "secret" => refers(own, "Secret", of.get("name"), "secret.name")?,
            "configMap" => refers(own, "ConfigMap", of.get("name"), "configMap.name")?,
            "downwardAPI" => {}
            "serviceAccountToken" => return Err("serviceAccountToken holds a ServiceAccount's token".to_owned()),
            other => return Err(format!("{other} is not accepted: pods of a storage have no identity of the cluster's")),
        }
    }
    Ok(())
}

/// Whether a pod may read an object of this name.
fn refers(own: &Own<'_>, kind: &str, name: Option<&Value>, path: &str) -> Result<(), String> {
    let name = name.and_then(Value::as_str).unwrap_or_default();
    let public = kind == "ConfigMap" && name == "kube-root-ca.crt"; // readable by every pod
    match public || own.reads(kind, name) {
        true => Ok(()),
        false => Err(format!("{path} is {name:?}: no {kind} of this plan, nor one that the class names")),
    }
}

/// Where a pod runs, and with which priority: only as the class has it.
fn placed(spec: &Value, own: &Own<'_>, asked: &mut Asked) -> Result<(), String> {
    for (field, usual, word) in [
        ("priorityClassName", "", "priority-class"),
        ("runtimeClassName", "", "runtime-class"),
        ("schedulerName", "default-scheduler", "scheduler"),
    ] {
        let value = spec.get(field).unwrap_or(&Value::Null);
        if field == "priorityClassName" && value.as_str().is_some_and(|name| name.starts_with("system-")) {
            return Err(format!("{field} is {value}, which is for the cluster's own pods"));
        }
        if is_set(value) && *value != usual {
            if !own.holds(value) {
                return Err(format!("{field} is {value}, which the class does not name"));
            }
            asked.insert(word);
        }
    }
    for (index, toleration) in items(spec, "tolerations") {
        let for_a_while = toleration.get("tolerationSeconds").is_some_and(|seconds| !seconds.is_null());
        if !(for_a_while && BORNE.contains(&text(toleration, "/key"))) {
            if !own.holds(toleration) {
                return Err(format!("tolerations[{index}] is {toleration}, which the class does not have"));
            }
            if text(toleration, "/key").is_empty() {
                asked.insert("tolerations");
            }
        }
    }
    for (key, value) in spec.get("nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        if !MACHINES.contains(&key.as_str()) && !own.pairs(key, value) {
            return Err(format!("nodeSelector asks for {key:?}: {value}, which the class does not have"));
        }
    }
    let affinity = spec.get("affinity").unwrap_or(&Value::Null);
    if affinity.get("nodeAffinity").is_some_and(|it| is_set(it) && !empty(it) && !own.holds(it)) {
        return Err("affinity.nodeAffinity is not what the class says".to_owned());
    }
    let mut terms = Vec::new();
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(of) = affinity.get(field) else { continue };
        let path = format!("affinity.{field}");
        terms.extend(
            items(of, "requiredDuringSchedulingIgnoredDuringExecution").into_iter().map(|(_, term)| (term, path.clone())),
        );
        let preferred = items(of, "preferredDuringSchedulingIgnoredDuringExecution");
        terms.extend(preferred.into_iter().filter_map(|(_, term)| Some((term.get("podAffinityTerm")?, path.clone()))));
    }
    let spread = items(spec, "topologySpreadConstraints").into_iter();
    terms.extend(spread.map(|(at, term)| (term, format!("topologySpreadConstraints[{at}]"))));
    for (term, path) in terms {
        let far = term.get("namespaces").is_some_and(|it| !empty(it))
            || term.get("namespaceSelector").is_some_and(|it| !it.is_null());
        if far || !own.selects(term.get("labelSelector")) {
            if !own.holds(term) {
                return Err(format!("{path} counts pods of others, and the class does not have it: {}", own.expected()));
            }
            asked.insert("affinity");
        }
    }
    Ok(())
}

/// What may stand in a pod's metadata: annotations are an older way to set a field of the spec, which Kubernetes still takes.
pub fn check_annotations(metadata: &Value) -> Result<(), String> {
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    let unconfined = |(key, value): &(&String, &Value)| key.starts_with(APPARMOR) && *value == "unconfined";
    match annotations.into_iter().flatten().find(unconfined) {
        Some((key, _)) => Err(format!("annotations hold {key}: unconfined, which opens the node's kernel to the container")),
        None => Ok(()),
    }
}

fn security(context: Option<&Value>, path: &str) -> Result<(), String> {
    let Some(context) = context else { return Ok(()) };
    if context.get("privileged").is_some_and(is_set) {
        return Err(format!("{path}.privileged is the node's root"));
    }
    if context.pointer("/capabilities/add").is_some_and(|value| !empty(value)) {
        return Err(format!("{path}.capabilities.add gives more than a container has by itself"));
    }
    if context.get("procMount").is_some_and(|value| is_set(value) && *value != "Default") {
        return Err(format!("{path}.procMount unmasks the node's /proc"));
    }
    if context.pointer("/windowsOptions/hostProcess").is_some_and(is_set) {
        return Err(format!("{path}.windowsOptions.hostProcess runs on the node itself"));
    }
    for profile in ["seccompProfile", "appArmorProfile"] {
        if text(context, &format!("/{profile}/type")) == "Unconfined" {
            return Err(format!("{path}.{profile}.type is Unconfined, which opens the node's kernel to the container"));
        }
    }
    for (field, allowed) in [("user", &[""][..]), ("role", &[""]), ("type", &SELINUX_TYPES)] {
        let value = text(context, &format!("/seLinuxOptions/{field}"));
        if !allowed.contains(&value) {
            return Err(format!("{path}.seLinuxOptions.{field} is {value:?}, which is not one of a container's"));
        }
    }
    for (index, sysctl) in items(context, "sysctls") {
        let name = text(sysctl, "/name");
        if !SYSCTLS.contains(&name) {
            return Err(format!("{path}.sysctls[{index}] sets {name}, which is not the pod's alone"));
        }
    }
    Ok(())
}

/// What the node calls in a container.
const HANDLERS: [&str; 5] =
    ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
/// Begins annotations that set a container's AppArmor profile, as before there was a field for it.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// What Pod Security's profile "baseline" takes, as of v1.36:
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline>.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

#[cfg(test)]
mod tests {
    /// The policy in `deploy/` has the same lists: what is refused here, the account cannot do.
    #[test]
    fn the_policy_has_the_same_lists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/atomix-controller.yaml");
        let text = std::fs::read_to_string(path).expect("it is part of the sources");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for list in [&super::SELINUX_TYPES[..], &super::SYSCTLS, &super::VOLUMES] {
            let list = format!("['{}']", list.join("', '"));
            assert!(text.contains(&list), "deploy/atomix-controller.yaml, in atomix-controller's policy: {list}");
        }
    }
}
