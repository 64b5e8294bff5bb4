//! A plugin of a Deployment and a Service for each partition: nothing that any real storage has.

use atomix_sdk::{Class, Kind, PartitionState, Plan, Plugin, Refusal, Seen, json, reason};

atomix_sdk::export!(plugin);

/// Web servers, one Deployment for each partition.
#[derive(serde::Deserialize, schemars::JsonSchema)]
pub struct WebClass {
    /// Image of the servers.
    image: String,

    /// Servers of each partition (1 to 5).
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    replicas: u32,

    /// Why no database can be planned at present, if so.
    #[serde(default)]
    refuse: Option<String>,

    /// Whether each partition has a ConfigMap too.
    #[serde(default)]
    settings: bool,

    /// What is wrong with the plans, if something is.
    #[serde(default)]
    trouble: Option<Trouble>,
}

/// What can be wrong with a plan.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
pub enum Trouble {
    /// The plugin panics.
    Panics,
    /// The ConfigMap holds one more than it holds already.
    Counts,
    /// The Service has a field that no Service has.
    UnknownField,
    /// The Service has a port that no Service may have.
    PortOfNone,
    /// A second Service has a name that is longer by 40 characters.
    LongNames,
}

/// What the plugin is.
pub fn plugin() -> Plugin {
    Plugin::new("web", env!("CARGO_PKG_VERSION"))
        .class(Class::new("WebStorageClass", plan))
        .emits(Kind::new("apps/v1", "Deployment").reads(&["/status/readyReplicas"]))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("v1", "ConfigMap").reads(&["/data/count"]))
}

fn plan(seen: &Seen<WebClass>) -> Result<Plan, Refusal> {
    if let Some(why) = &seen.class.refuse {
        return Err(Refusal::Waiting(reason("Starting", why.as_str())));
    }
    let trouble = seen.class.trouble;
    assert!(trouble != Some(Trouble::Panics), "the class asks for it");
    let mut plan = Plan::new();
    for partition in &seen.partitions {
        let name = &partition.service_name;
        let ready = seen.object("Deployment", name).and_then(|live| live.integer("/status/readyReplicas")).unwrap_or(0);
        let missing = format!("{ready} of {} servers of {name} are ready", seen.class.replicas);
        let mut labels = seen.selector(partition.cluster);
        labels["partition"] = partition.id.to_string().into();
        let mut port = json!({"name": "http", "port": 80, "protocol": "TCP"});
        match trouble {
            Some(Trouble::UnknownField) => port["nonsense"] = true.into(),
            Some(Trouble::PortOfNone) => port["port"] = 70_000.into(),
            _ => {}
        }
        if seen.class.settings || trouble == Some(Trouble::Counts) {
            let count =
                seen.object("ConfigMap", name).and_then(|live| live.text("/data/count")?.parse().ok()).unwrap_or(0_u64);
            let count = if trouble == Some(Trouble::Counts) { count + 1 } else { 0 };
            let settings = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"count": count.to_string()},
            });
            plan = plan.object(format!("settings-{}", partition.id), settings);
        }
        if trouble == Some(Trouble::LongNames) {
            let second = json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": format!("{name}{}", "-x".repeat(20))},
                "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            });
            plan = plan.object(format!("second-{}", partition.id), second);
        }
        plan = plan
            .object(
                format!("servers-{}", partition.id),
                json!({
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": name},
                    "spec": {
                        "replicas": seen.class.replicas,
                        "selector": {"matchLabels": labels},
                        "template": {
                            "metadata": {"labels": labels},
                            "spec": {"containers": [{"name": "web", "image": seen.class.image, "ports": [{"containerPort": 80}]}]},
                        },
                    },
                }),
            )
            .object(
                format!("service-{}", partition.id),
                json!({
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": name},
                    "spec": {"selector": labels, "ports": [port]},
                }),
            )
            .partition(PartitionState {
                id: partition.id,
                ready: ready > 0,
                endpoints: vec![seen.endpoint(name, 80)],
                problem: (ready < i64::from(seen.class.replicas)).then(|| reason("ServersNotReady", missing)),
            });
    }
    Ok(plan)
}

fn one() -> u32 {
    1
}
