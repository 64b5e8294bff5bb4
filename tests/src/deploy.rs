//! Applies `deploy/atomix-controller.yaml` the way a user does, but for a controller that runs on this machine: without the
//! Deployment, and with webhooks called by address. Starts nothing.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::controlplane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::{paths, pki, rights};

/// Applies it all and waits until the definitions are served. `webhook` is where the controller answers the API server, e.g.
/// `https://127.0.0.1:8443`: the API server cannot reach a Service whose endpoint is a loopback address.
pub async fn apply(plane: &ControlPlane, webhook: &str) -> Result<()> {
    let mut objects = for_this_machine(read()?, webhook);
    rights::without_one(&mut objects);
    let definitions: Vec<String> =
        objects.iter().filter(|object| kind(object) == "CustomResourceDefinition").map(name).collect();
    let file = plane.dir().join("deploy.json");
    pki::write(&file, &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    let kubectl = Kubectl::new(plane);
    kubectl.run(["apply", "-f", &file.display().to_string()]).await?;
    let mut wait =
        vec!["wait".to_owned(), "--for=condition=Established".into(), format!("--timeout={}s", ESTABLISHED.as_secs())];
    wait.extend(definitions.iter().map(|name| format!("crd/{name}")));
    kubectl.run(wait).await?;
    Ok(())
}

/// How long the API server may take to serve a new definition.
const ESTABLISHED: Duration = Duration::from_secs(90);

/// The objects of `deploy/atomix-controller.yaml`.
pub fn read() -> Result<Vec<Value>> {
    let path = paths::root().join("deploy/atomix-controller.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// Leaves the Deployment out and puts `webhook` in the place of each Service that a webhook is called through.
pub fn for_this_machine(mut objects: Vec<Value>, webhook: &str) -> Vec<Value> {
    objects.retain(|object| kind(object) != "Deployment");
    objects.iter_mut().for_each(|object| call_by_address(object, webhook));
    objects
}

fn call_by_address(value: &mut Value, webhook: &str) {
    if let Some(config) = value.get_mut("clientConfig").and_then(Value::as_object_mut)
        && let Some(service) = config.remove("service")
    {
        let path = service.get("path").and_then(Value::as_str).unwrap_or("/");
        config.insert("url".into(), format!("{webhook}{path}").into());
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| call_by_address(field, webhook)),
        Value::Array(items) => items.iter_mut().for_each(|item| call_by_address(item, webhook)),
        _ => {}
    }
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_decide::objects::admission_policy;
    use atomix_model::condition::Reason;

    #[test]
    fn services_of_webhooks_become_addresses_and_the_deployment_stays_out() {
        let given = vec![
            json!({"kind": "Deployment"}),
            json!({"kind": "CustomResourceDefinition", "spec": {"conversion": {"webhook": {
                "clientConfig": {"service": {"namespace": "kube-system", "name": "atomix-controller", "path": "/convert", "port": 443}}}}}}),
            json!({"kind": "Service", "spec": {"ports": [{"port": 443}]}}),
        ];
        let after = for_this_machine(given.clone(), "https://127.0.0.1:1234");
        assert_eq!(after.len(), 2);
        let config = after[0].pointer("/spec/conversion/webhook/clientConfig");
        assert_eq!(config, Some(&json!({"url": "https://127.0.0.1:1234/convert"})));
        assert_eq!(after[1], given[2]);
    }

    /// The controller recognises the policy's refusals by its name and by the code before the first colon.
    #[test]
    fn the_policy_is_of_the_name_and_the_codes_that_the_controller_reads() {
        let objects = read().expect("it is YAML");
        let named = |of: &str| {
            let found = objects.iter().find(|object| kind(object) == of && name(object) == admission_policy::NAME);
            found.unwrap_or_else(|| panic!("there is no {of} {}", admission_policy::NAME))
        };
        let (policy, binding) = (named("ValidatingAdmissionPolicy"), named("ValidatingAdmissionPolicyBinding"));
        assert_eq!(binding.pointer("/spec/policyName"), Some(&json!(admission_policy::NAME)));
        let validations = policy.pointer("/spec/validations").and_then(Value::as_array);
        let reasons: Vec<Reason> = validations
            .expect("the policy has validations")
            .iter()
            .map(|validation| {
                let message = validation["messageExpression"].as_str().expect("it has a message");
                let code = message.strip_prefix('\'').and_then(|text| text.split_once(": ")).expect("a code comes first").0;
                Reason::of(code)
            })
            .collect();
        assert!(reasons.contains(&Reason::NameTaken), "{reasons:?}");
    }
}
