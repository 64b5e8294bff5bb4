//! Checks whether a plugin's answers are what the contract allows: names, counts, sizes, one state for each partition.
//! Whether a plan may be written is not checked here. An error is one sentence for the plugin's author.

use std::collections::BTreeSet;

use serde_json::Value;

use atomix_model::contract::{Descriptor, FieldError, Group, GroupClass, Plan, Reason, Refusal, Request, plain, short};
use atomix_model::{limits, names};

pub(super) type Checked = Result<(), String>;

/// Checks the answer of `plan` against the request.
pub fn check_answer(answer: &Result<Plan, Refusal>, request: &Request) -> Checked {
    match answer {
        Ok(plan) => check_plan(plan, request),
        Err(Refusal::Invalid(errors)) => check_field_errors(errors),
        Err(Refusal::Waiting(reason)) => check_reason("the refusal", reason),
    }
}

fn check_plan<'a>(plan: &'a Plan, request: &Request) -> Checked {
    let (mut ids, mut named) = (BTreeSet::new(), BTreeSet::new());
    for object in &plan.objects {
        let id = short(&object.id);
        word("an object's id", &object.id)?;
        if !ids.insert(&object.id) {
            return Err(format!("two objects of the plan have the id {id:?}"));
        }
        let field = |of: Option<&'a Value>, name: &str, path: &str| {
            let text = of.and_then(|of| of.get(name)?.as_str()).filter(|text| !text.is_empty());
            text.ok_or_else(|| format!("object {id:?} has no {path}"))
        };
        let manifest = Some(&object.manifest);
        let version = field(manifest, "apiVersion", "apiVersion")?;
        let kind = field(manifest, "kind", "kind")?;
        let name = field(object.manifest.get("metadata"), "name", "metadata.name")?;
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        if let Some(expected) = names::expected(group, kind, name) {
            return Err(format!("the name of object {id:?} is {:?}, of {} characters; {expected}", short(name), name.len()));
        }
        if !named.insert((group, kind, name)) {
            return Err(format!("two objects of the plan are {} {name}; the second is {id:?}", plain(kind)));
        }
    }
    check_partitions(plan, request)?;
    at_most("changes not taken", plan.unsupported.len(), limits::REMARKS_MAX)?;
    for change in &plan.unsupported {
        word("the field of a change not taken", &change.field)?;
        for (what, text) in [("wanted", &change.wanted), ("kept", &change.kept), ("why", &change.why)] {
            message(&format!("{what} of the change of {}", short(&change.field)), text)?;
        }
    }
    at_most("notes", plan.notes.len(), limits::REMARKS_MAX)?;
    plan.notes.iter().try_for_each(|note| check_reason("a note", &note.reason))
}

fn check_partitions(plan: &Plan, request: &Request) -> Checked {
    let (wanted, found): (Vec<u32>, Vec<u32>) =
        (request.partitions.iter().map(|p| p.id).collect(), plan.partitions.iter().map(|p| p.id).collect());
    if wanted != found {
        let odd = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found);
        let (wanted, found) = match odd {
            Some((wanted, found)) => (format!("partition {wanted}"), format!("partition {found}")),
            None => (format!("{} of them", wanted.len()), format!("{}", found.len())),
        };
        return Err(format!("the plan must say how each partition goes, by id: {wanted} was due and {found} was given"));
    }
    let services = services(plan);
    let names: BTreeSet<&str> = request.partitions.iter().map(|partition| partition.service_name.as_str()).collect();
    let domain = format!(".{}.svc.{}", request.database.namespace, request.cluster_domain);
    for (partition, wanted) in plan.partitions.iter().zip(&request.partitions) {
        let (of, own) = (format!("partition {}", partition.id), wanted.service_name.as_str());
        if !services.contains(own) {
            return Err(format!("the plan has no Service {own}, through which clients reach {of}"));
        }
        at_most(&format!("endpoints of {of}"), partition.endpoints.len(), limits::ENDPOINTS_MAX)?;
        for endpoint in &partition.endpoints {
            if !names::is_subdomain(&endpoint.host) || endpoint.port == 0 {
                return Err(format!(
                    "an endpoint of {of} is {:?}, port {}; a host name and a port are expected",
                    short(&endpoint.host),
                    endpoint.port
                ));
            }
            // `<Service>` or `<pod>.<Service>`, then the namespace's domain.
            let service = endpoint.host.strip_suffix(&domain).and_then(|host| host.rsplit('.').next());
            let is_its = |service: &str| services.contains(service) && (service == own || !names.contains(service));
            if !service.is_some_and(is_its) {
                return Err(format!(
                    "an endpoint of {of} is {:?}; a Service of the plan is expected that is no other partition's, as in {own}{domain}",
                    short(&endpoint.host)
                ));
            }
        }
        if partition.ready && partition.endpoints.is_empty() {
            return Err(format!("{of} is ready and has no endpoint"));
        }
        if let Some(problem) = &partition.problem {
            check_reason(&of, problem)?;
        }
    }
    Ok(())
}

/// Names of the Services of a plan.
fn services(plan: &Plan) -> BTreeSet<&str> {
    let is_service = |manifest: &Value| manifest["apiVersion"] == "v1" && manifest["kind"] == "Service";
    let planned = plan.objects.iter().map(|object| &object.manifest).filter(|manifest| is_service(manifest));
    planned.filter_map(|manifest| manifest["metadata"]["name"].as_str()).collect()
}

/// Checks the field errors of a refusal or of `validate`.
pub fn check_field_errors(errors: &[FieldError]) -> Checked {
    if errors.is_empty() {
        return Err("it refused without saying why".to_owned());
    }
    at_most("field errors", errors.len(), limits::REMARKS_MAX)?;
    errors.iter().try_for_each(|error| {
        word("the path of a field error", &error.path)?;
        message("a field error", &error.message)
    })
}

fn check_reason(of: &str, reason: &Reason) -> Checked {
    // What a condition's `reason` accepts.
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !reason.code.starts_with(|c: char| c.is_ascii_alphabetic()) || !reason.code.chars().all(good) {
        return Err(format!("the reason of {of} is {:?}; one word in CamelCase is expected", short(&reason.code)));
    }
    word(&format!("the reason of {of}"), &reason.code)?;
    message(&format!("the message of {of}"), &reason.message)
}

/// Checks the class of `class-of`: one that the plugin serves.
pub fn check_group_class(class: &GroupClass, descriptor: &Descriptor) -> Checked {
    let kind = descriptor.class_kinds.iter().find(|kind| kind.kind == class.kind);
    match kind.is_some_and(|kind| kind.versions.contains(&class.version)) {
        true => Ok(()),
        false => Err(format!(
            "the class for a group is {} {}, which it does not serve",
            short(&class.kind),
            short(&class.version)
        )),
    }
}

/// Checks the group of `group-of` against what `protocols` returned.
pub fn check_group(group: &Group, protocols: &[String]) -> Checked {
    if !protocols.contains(&group.protocol) {
        return Err(format!("the protocol of a group is {:?}, which it did not name before", short(&group.protocol)));
    }
    if !(1..=limits::PARTITION_SIZE_MAX).contains(&group.partition_size) {
        let (size, max) = (group.partition_size, limits::PARTITION_SIZE_MAX);
        return Err(format!("a group has partitions of {size} members; 1 to {max} are accepted"));
    }
    at_most("bytes of a group's message", group.value.len(), limits::GROUP_BYTES_MAX)
}

pub(super) fn at_most(what: &str, count: usize, max: usize) -> Checked {
    match count > max {
        true => Err(format!("{what}: {count}; at most {max} are accepted")),
        false => Ok(()),
    }
}

pub(super) fn word(what: &str, text: &str) -> Checked {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} is {:?}; control characters are not accepted", short(text)));
    }
    at_most(&format!("characters of {what}"), text.len(), limits::WORD_CHARS_MAX)
}

fn message(what: &str, text: &str) -> Checked {
    at_most(&format!("characters of {what}"), text.len(), limits::MESSAGE_CHARS_MAX)
}

pub(super) fn dns_label(what: &str, text: &str, chars_max: usize) -> Checked {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: char| inner(c) && c != '-';
    match text.len() <= chars_max && text.starts_with(ends) && text.ends_with(ends) && text.chars().all(inner) {
        true => Ok(()),
        false => Err(format!(
            "{what} is {:?}; at most {chars_max} lower case letters, digits and dashes are expected",
            short(text)
        )),
    }
}

pub(super) fn kind_name(what: &str, text: &str) -> Checked {
    match text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
    {
        true => Ok(()),
        false => Err(format!(
            "{what} is {:?}; at most 63 letters and digits are expected, the first an upper case letter",
            short(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor_checks::tests::descriptor;
    use atomix_model::contract::{
        ClassSeen, DatabaseSeen, Endpoint, Note, PartitionState, PartitionWanted, PlannedObject, Unsupported,
    };
    use serde_json::json;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    fn request() -> Request {
        let wanted = |id| PartitionWanted { id, cluster: 1, service_name: format!("web-{id}") };
        Request {
            database: DatabaseSeen {
                namespace: text("default"),
                name: text("web"),
                partitions: 2,
                partitions_per_cluster: 2,
                labels: Vec::new(),
                database_label: text("web.default"),
            },
            class: ClassSeen { kind: text("Web"), version: text("v1"), name: text("web"), spec: json!({}) },
            partitions: vec![wanted(1), wanted(2)],
            observed: Vec::new(),
            cluster_domain: text("cluster.local"),
            features: Vec::new(),
        }
    }

    fn object(id: &str, name: &str) -> PlannedObject {
        PlannedObject { id: text(id), manifest: json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}) }
    }

    fn plan() -> Plan {
        let state = |id| PartitionState {
            id,
            ready: false,
            endpoints: vec![Endpoint { host: format!("web-{id}.default.svc.cluster.local"), port: 80 }],
            problem: Some(Reason { code: text("NotReady"), message: text("no server is ready") }),
        };
        Plan {
            objects: vec![object("a", "web-1"), object("b", "web-2")],
            partitions: vec![state(1), state(2)],
            unsupported: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[track_caller]
    fn broken(spoil: impl FnOnce(&mut Plan), expected: &str) {
        let mut plan = plan();
        assert_eq!(check_answer(&Ok(plan.clone()), &request()), Ok(()));
        spoil(&mut plan);
        let error = check_answer(&Ok(plan), &request()).expect_err("the plan is broken");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_a_plan_may_not_hold_is_named() {
        broken(|plan| plan.objects[1].id = text("a"), "two objects of the plan have the id \"a\"");
        broken(
            |plan| plan.objects[1] = object("b", "web-1"),
            "two objects of the plan are Service web-1; the second is \"b\"",
        );
        broken(|plan| plan.objects[0].manifest["kind"] = json!(7), "object \"a\" has no kind");
        broken(
            |plan| plan.objects[0] = object("a", &"x".repeat(254)),
            "of 254 characters; at most 63 characters are expected",
        );
        for elsewhere in ["web/status", "web?dryRun=All", "../web", "web%2fstatus", "Web", "web\n", "1web", "a.b"] {
            broken(|plan| plan.objects[0] = object("a", elsewhere), "the name of object \"a\" is");
        }
        broken(|plan| plan.objects[0].id = "x".repeat(300), "characters of an object's id: 300; at most 253");
        broken(|plan| drop(plan.partitions.pop()), "2 of them was due and 1 was given");
        broken(|plan| plan.partitions.swap(0, 1), "partition 1 was due and partition 2 was given");
        broken(|plan| plan.partitions[0].endpoints[0].port = 0, "an endpoint of partition 1");
        for elsewhere in [
            "kubernetes.default.svc.cluster.local",
            "web-1.other.svc.cluster.local",
            "web-1.default.svc",
            "web-1.default.svc.cluster.local.example.com",
            "example.com",
            "web-2.default.svc.cluster.local",
            "pod.web-2.default.svc.cluster.local",
        ] {
            broken(
                |plan| plan.partitions[0].endpoints[0].host = text(elsewhere),
                "a Service of the plan is expected that is no other partition's, as in web-1.default.svc.cluster.local",
            );
        }
        broken(
            |plan| plan.objects[1] = object("b", "web"),
            "the plan has no Service web-2, through which clients reach partition 2",
        );
        for none in
            ["", "a b", "web-1\n.default.svc.cluster.local", "\u{1b}[2J", "10.0.0.1:80", "Web-1.default.svc.cluster.local"]
        {
            broken(|plan| plan.partitions[0].endpoints[0].host = text(none), "a host name and a port are expected");
        }
        broken(
            |plan| (plan.partitions[0].ready, plan.partitions[0].endpoints) = (true, Vec::new()),
            "partition 1 is ready and has no endpoint",
        );
        broken(|plan| plan.partitions[1].problem = Some(Reason { code: text("not ready"), message: text("") }), "CamelCase");
        let note = Note { warning: true, reason: Reason { code: text("Odd"), message: "x".repeat(5000) } };
        broken(|plan| plan.notes.push(note.clone()), "characters of the message of a note: 5000; at most 4096");
        broken(|plan| plan.notes = vec![note.clone(); 65], "notes: 65; at most 64");
        let change = Unsupported { field: text(""), wanted: text("1"), kept: text("2"), why: text("so") };
        broken(|plan| plan.unsupported.push(change), "the field of a change not taken is empty");
    }

    #[test]
    fn a_refusal_has_a_reason() {
        assert!(check_answer(&Err(Refusal::Invalid(Vec::new())), &request()).is_err());
        let nameless = Refusal::Waiting(Reason { code: text(""), message: text("later") });
        assert!(check_answer(&Err(nameless), &request()).is_err());
    }

    #[test]
    fn a_group_names_a_protocol_of_the_plugin() {
        let group = |partition_size, protocol: &str, bytes| {
            check_group(&Group { partition_size, protocol: text(protocol), value: vec![0; bytes] }, &[text("a.B")])
        };
        assert_eq!(group(1024, "a.B", limits::GROUP_BYTES_MAX), Ok(()));
        for wrong in
            [group(0, "a.B", 0), group(1025, "a.B", 0), group(1, "a.C", 0), group(1, "a.B", limits::GROUP_BYTES_MAX + 1)]
        {
            assert!(wrong.is_err());
        }
    }

    #[test]
    fn the_class_for_a_group_is_one_that_the_plugin_serves() {
        let class = |kind: &str, version: &str| {
            check_group_class(&GroupClass { kind: text(kind), version: text(version), spec: json!({}) }, &descriptor())
        };
        assert_eq!(class("WebStorageClass", "v1beta1"), Ok(()));
        assert_eq!(
            class("WebStorageClass", "v2"),
            Err(text("the class for a group is WebStorageClass v2, which it does not serve"))
        );
        assert!(class("Other", "v1beta1").is_err());
    }
}
