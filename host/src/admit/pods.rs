//! What may stand in a pod's spec. Knows no plan and no object around it.

use serde_json::{Value, json};

use super::{empty, items};

/// What a tenant of the cluster may put into a pod, and no more: Kubernetes' own Baseline, and no identity.
pub fn check(spec: &Value) -> Result<(), String> {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field).is_some_and(|value| *value != json!(false) && !value.is_null()) {
            return Err(format!("{field} shares the node's own namespace"));
        }
    }
    if spec.get("automountServiceAccountToken") != Some(&json!(false)) {
        return Err("automountServiceAccountToken must be false: pods of a storage have no business with the API".to_owned());
    }
    for field in ["serviceAccountName", "serviceAccount"] {
        let account = spec.get(field).and_then(Value::as_str).unwrap_or_default();
        if !["", "default"].contains(&account) {
            return Err(format!("{field} is {account:?}, which was not granted"));
        }
    }
    for (index, volume) in items(spec, "volumes") {
        if volume.get("hostPath").is_some_and(|value| !value.is_null()) {
            return Err(format!("volumes[{index}].hostPath reaches into the node"));
        }
        let sources = volume.get("projected").map(|projected| items(projected, "sources")).unwrap_or_default();
        if sources.iter().any(|(_, source)| source.get("serviceAccountToken").is_some_and(|token| !token.is_null())) {
            return Err(format!("volumes[{index}].projected holds a ServiceAccount's token"));
        }
    }
    let priority = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default();
    if priority.starts_with("system-") {
        return Err(format!("priorityClassName is {priority:?}, which is for the cluster's own pods"));
    }
    security(spec.get("securityContext"), "securityContext")?;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(spec, list) {
            security(container.get("securityContext"), &format!("{list}[{index}].securityContext"))?;
            for handler in HANDLERS {
                if ["httpGet", "tcpSocket"].iter().any(|how| !text(container, &format!("{handler}/{how}/host")).is_empty()) {
                    let field = handler.trim_start_matches('/').replace('/', ".");
                    return Err(format!("{list}[{index}].{field} has a host: the node may be sent to its own pod only"));
                }
            }
            for (port, entry) in items(container, "ports") {
                if entry.get("hostPort").and_then(Value::as_i64).unwrap_or(0) != 0 {
                    return Err(format!("{list}[{index}].ports[{port}].hostPort takes a port of the node"));
                }
            }
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

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn security(context: Option<&Value>, path: &str) -> Result<(), String> {
    let Some(context) = context else { return Ok(()) };
    if context.get("privileged").is_some_and(|value| *value != json!(false) && !value.is_null()) {
        return Err(format!("{path}.privileged is the node's root"));
    }
    if context.pointer("/capabilities/add").is_some_and(|value| !empty(value)) {
        return Err(format!("{path}.capabilities.add gives more than a container has by itself"));
    }
    if context.get("procMount").is_some_and(|value| *value != json!("Default") && !value.is_null()) {
        return Err(format!("{path}.procMount unmasks the node's /proc"));
    }
    if context.pointer("/windowsOptions/hostProcess").is_some_and(|value| *value != json!(false) && !value.is_null()) {
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
        let name = sysctl.get("name").and_then(Value::as_str).unwrap_or_default();
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
    /// The policy in `deploy/` knows the same lists: what is refused here, the account cannot do.
    #[test]
    fn the_policy_has_the_same_lists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/atomix-controller.yaml");
        let text = std::fs::read_to_string(path).expect("it is part of the sources");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for list in [&super::SELINUX_TYPES[..], &super::SYSCTLS] {
            let list = format!("['{}']", list.join("', '"));
            assert!(text.contains(&list), "deploy/atomix-controller.yaml, in atomix-controller's policy: {list}");
        }
    }
}
