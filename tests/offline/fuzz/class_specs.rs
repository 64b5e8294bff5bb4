//! Specs of classes, and fields of live objects, as users and others write them: a plugin names what is wrong with them, or
//! plans. It does not panic, whatever stands there, and no answer breaks the contract.

use std::fs;
use std::time::Duration;

use atomix_decide::schema;
use atomix_model::contract::Request;
use atomix_model::limits;
use atomix_sandbox::Revision;
use harness::golden;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Bound, Parser, corpus, json_changes as changes};
use crate::components;

/// Requests of the golden cases of a plugin, each with the class kind and spec that a user wrote.
fn seeds(plugin: &str) -> Vec<Value> {
    let cases = fs::read_dir(golden::case(plugin)).unwrap().map(|case| case.unwrap().path());
    let kept = corpus("class-spec").into_iter().filter_map(|bytes| serde_json::from_slice(&bytes).ok());
    let mut seeds: Vec<Value> = cases.map(|case| json!(golden::given::<Request>(&case))).collect();
    seeds.sort_by_key(Value::to_string);
    seeds.into_iter().chain(kept).collect()
}

/// Requests in which the class's spec, or what is observed, is another. What the host itself sets is as it was.
fn nearly(seeds: Vec<Value>) -> impl Strategy<Value = Vec<u8>> {
    let made = (prop::sample::select(seeds), changes::changes(), prop::option::weighted(0.3, changes::changes()));
    made.prop_map(|(mut request, of_spec, of_observed)| {
        let mut spec = request["class"]["spec"].take();
        of_spec.iter().for_each(|change| changes::changed(&mut spec, change));
        request["class"]["spec"] = if spec.is_object() { spec } else { json!({}) };
        for (at, change) in of_observed.into_iter().flatten() {
            let observed = request["observed"].as_array_mut().into_iter().flatten();
            let mut values: Vec<_> =
                observed.filter_map(|object| object["fields"].as_array_mut()).flatten().map(|field| &mut field[1]).collect();
            if !values.is_empty() {
                let which = at.index(values.len());
                changes::changed(values[which], &(at, change));
            }
        }
        request.to_string().into_bytes()
    })
}

/// Most bytes of a request: the API server accepts no class that is larger (etcd's own limit is 1.5 MiB).
const REQUEST_BYTES_MAX: usize = 3 << 20;

/// Calls the plugin with a request. An error is a fault that is not the user's.
fn answered(revision: &Revision, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Ok(());
    }
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return Ok(()) };
    let Some(kind) = revision.descriptor().class_kinds.iter().find(|kind| kind.kind == request.class.kind) else {
        return Ok(());
    };
    let _ = schema::errors("spec", &kind.spec_schema, &request.class.spec);
    let _ = revision.validate(&kind.kind, &request.class.spec).map_err(|fault| fault.to_string())?;
    let planned = revision.plan_metered(&request).map_err(|fault| fault.to_string())?;
    match planned.fuel > limits::PLAN_FUEL {
        true => Err(format!("{} units of fuel", planned.fuel)),
        false => Ok(()),
    }
}

fn any_spec_is_planned_or_refused_by(plugin: &'static str) {
    let revision = components::plugin(plugin);
    let read = |bytes: &[u8]| answered(&revision, bytes);
    let bound = Bound { heap: 8 << 20, heap_per_byte: 200, cpu: Duration::from_secs(2) };
    let seeds = seeds(plugin);
    let mut large = seeds[0].clone();
    large["class"]["spec"] = json!({"env": [{"name": "LARGE", "value": "x".repeat(limits::PLAN_OBJECT_BYTES_MAX)}]});
    for seed in seeds.iter().chain([&large]) {
        read(seed.to_string().as_bytes()).unwrap_or_else(|why| panic!("{why}: {seed}"));
    }
    Parser { name: "class-spec", cases: 1500, bound, read: &read }.takes(nearly(seeds));
}

#[test]
fn any_spec_is_planned_or_refused_by_raft() {
    any_spec_is_planned_or_refused_by("raft");
}

#[test]
fn any_spec_is_planned_or_refused_by_cache() {
    any_spec_is_planned_or_refused_by("cache");
}

#[test]
fn any_spec_is_planned_or_refused_by_etcd() {
    any_spec_is_planned_or_refused_by("etcd");
}

#[test]
fn any_spec_is_planned_or_refused_by_valkey() {
    any_spec_is_planned_or_refused_by("valkey");
}

#[test]
fn any_spec_is_planned_or_refused_by_redis() {
    any_spec_is_planned_or_refused_by("redis");
}

#[test]
fn any_message_of_a_group_is_a_class_or_refused() {
    for plugin in ["raft", "cache"] {
        let revision = components::plugin(plugin);
        let protocols = revision.protocols().to_vec();
        let read = |bytes: &[u8]| {
            let (size, value) = bytes.split_first().map_or((0, bytes), |(size, value)| (u32::from(*size), value));
            for protocol in &protocols {
                let class = revision.class_of(protocol, value, size).map_err(|fault| fault.to_string())?;
                if let Some(Ok(class)) = class {
                    revision.group_of(&class.kind, &class.spec).map_err(|fault| fault.to_string())?;
                    let valid = revision.validate(&class.kind, &class.spec).map_err(|fault| fault.to_string())?;
                    valid.map_err(|errors| format!("its own class {} is not accepted: {errors:?}", class.spec))?;
                }
            }
            Ok(())
        };
        let bound = Bound { heap: 4 << 20, heap_per_byte: 100, cpu: Duration::from_secs(1) };
        Parser { name: "group-message", cases: 1500, bound, read: &read }
            .takes(super::changed_bytes(corpus("group-message")));
    }
}
