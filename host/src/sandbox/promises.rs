//! Whether a plugin's answers are what the contract allows: names, counts, sizes, one state for each partition. Whether a plan may
//! be written is not asked here. An error is one sentence for the plugin's author.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::limits;
use crate::wit::{ClassKind, Descriptor, FieldError, Group, GroupClass, ObjectKind, Plan, Reason, Refusal, Request, short};

type Checked = Result<(), String>;

/// Checks the answer of `plan` against the request.
pub fn check_answer(answer: &Result<Plan, Refusal>, request: &Request) -> Checked {
    match answer {
        Ok(plan) => check_plan(plan, request),
        Err(Refusal::Invalid(errors)) => check_field_errors(errors),
        Err(Refusal::Waiting(reason)) => check_reason("the refusal", reason),
    }
}

fn check_plan<'a>(plan: &'a Plan, request: &Request) -> Checked {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
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
        if name.len() > limits::NAME_CHARS_MAX {
            return Err(format!(
                "the name of object {id:?} has {} characters; at most {} are accepted",
                name.len(),
                limits::NAME_CHARS_MAX
            ));
        }
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        if !names.insert((group, kind, name)) {
            return Err(format!("two objects of the plan are {kind} {name}; the second is {id:?}"));
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
    let (wanted, said): (Vec<u32>, Vec<u32>) =
        (request.partitions.iter().map(|p| p.id).collect(), plan.partitions.iter().map(|p| p.id).collect());
    if wanted != said {
        let odd = wanted.iter().zip(&said).find(|(wanted, said)| wanted != said);
        let (wanted, said) = match odd {
            Some((wanted, said)) => (format!("partition {wanted}"), format!("partition {said}")),
            None => (format!("{} of them", wanted.len()), format!("{}", said.len())),
        };
        return Err(format!("the plan must say how each partition goes, by id: {wanted} was due and {said} was given"));
    }
    for partition in &plan.partitions {
        let of = format!("partition {}", partition.id);
        at_most(&format!("endpoints of {of}"), partition.endpoints.len(), limits::ENDPOINTS_MAX)?;
        for endpoint in &partition.endpoints {
            if endpoint.host.is_empty() || endpoint.host.len() > limits::NAME_CHARS_MAX || endpoint.port == 0 {
                return Err(format!(
                    "an endpoint of {of} is {}:{}; a host name and a port are expected",
                    short(&endpoint.host),
                    endpoint.port
                ));
            }
        }
        if let Some(problem) = &partition.problem {
            check_reason(&of, problem)?;
        }
    }
    Ok(())
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

/// Checks what `describe` said.
pub fn check_descriptor(said: &Descriptor) -> Checked {
    dns_label("the plugin's name", &said.name, limits::PLUGIN_NAME_CHARS_MAX)?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    if said.version.is_empty() || said.version.len() > limits::PLUGIN_VERSION_CHARS_MAX || !said.version.chars().all(good) {
        return Err(format!(
            "the plugin's version is {:?}; at most 63 letters, digits and -._+ are expected",
            short(&said.version)
        ));
    }
    if said.class_kinds.is_empty() {
        return Err("it serves no class kind".to_owned());
    }
    at_most("class kinds", said.class_kinds.len(), limits::CLASS_KINDS_MAX)?;
    said.class_kinds.iter().try_for_each(check_class_kind)?;
    at_most("kinds emitted and watched", said.emits.len() + said.watches.len(), limits::OBJECT_KINDS_MAX)?;
    let mut kinds = BTreeSet::new();
    for kind in said.emits.iter().chain(&said.watches) {
        check_object_kind(kind)?;
        if !kinds.insert((&kind.group, &kind.kind)) {
            return Err(format!("the kind {} is named twice", kind.kind));
        }
    }
    Ok(())
}

fn check_class_kind(said: &ClassKind) -> Checked {
    kind_name("a class kind", &said.kind)?;
    dns_label(&format!("the plural of {}", said.kind), &said.plural, 63)?;
    if said.versions.is_empty() {
        return Err(format!("{} has no version", said.kind));
    }
    for (what, count) in
        [("versions", said.versions.len()), ("short names", said.short_names.len()), ("columns", said.columns.len())]
    {
        at_most(&format!("{what} of {}", said.kind), count, limits::CLASS_KIND_LIST_MAX)?;
    }
    said.versions.iter().try_for_each(|version| dns_label(&format!("a version of {}", said.kind), version, 63))?;
    said.short_names.iter().try_for_each(|name| dns_label(&format!("a short name of {}", said.kind), name, 63))?;
    if said.spec_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(format!("the schema of {} is not of type object", said.kind));
    }
    for column in &said.columns {
        let types = ["string", "integer", "number", "boolean", "date"];
        if !types.contains(&column.data_type.as_str()) || !column.json_path.starts_with('.') || column.name.is_empty() {
            return Err(format!(
                "the column {:?} of {} has type {:?} and path {:?}; a type of {} and a path that starts with a dot are expected",
                short(&column.name),
                said.kind,
                short(&column.data_type),
                short(&column.json_path),
                types.join(", ")
            ));
        }
        word(&format!("a column of {}", said.kind), &column.name)?;
        word(&format!("the path of a column of {}", said.kind), &column.json_path)?;
    }
    Ok(())
}

fn check_object_kind(said: &ObjectKind) -> Checked {
    kind_name("a kind", &said.kind)?;
    dns_label(&format!("the plural of {}", said.kind), &said.plural, 63)?;
    dns_label(&format!("the version of {}", said.kind), &said.version, 63)?;
    if !said.group.is_empty() {
        said.group.split('.').try_for_each(|part| dns_label(&format!("the group of {}", said.kind), part, 63))?;
        word(&format!("the group of {}", said.kind), &said.group)?;
    }
    at_most(&format!("fields read of {}", said.kind), said.reads.len(), limits::POINTERS_MAX)?;
    for pointer in &said.reads {
        if !pointer.starts_with('/') || pointer.len() > limits::DESCRIPTOR_TEXT_CHARS_MAX {
            return Err(format!(
                "{:?} is read of {}; a JSON pointer of at most 253 characters is expected",
                short(pointer),
                said.kind
            ));
        }
    }
    Ok(())
}

/// Checks what `protocols` said: full names of messages, as protobuf has them.
pub fn check_protocols(said: &[String]) -> Checked {
    at_most("protocols", said.len(), limits::PROTOCOLS_MAX)?;
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for (at, name) in said.iter().enumerate() {
        if name.len() > limits::DESCRIPTOR_TEXT_CHARS_MAX || !name.split('.').all(part) {
            return Err(format!(
                "a protocol is {:?}; the full name of a protobuf message of at most {} characters is expected",
                short(name),
                limits::DESCRIPTOR_TEXT_CHARS_MAX
            ));
        }
        if said[..at].contains(name) {
            return Err(format!("the protocol {name} is named twice"));
        }
    }
    Ok(())
}

/// Checks the class of `class-of`: one that the plugin serves.
pub fn check_group_class(said: &GroupClass, descriptor: &Descriptor) -> Checked {
    let kind = descriptor.class_kinds.iter().find(|kind| kind.kind == said.kind);
    match kind.is_some_and(|kind| kind.versions.contains(&said.version)) {
        true => Ok(()),
        false => {
            Err(format!("the class for a group is {} {}, which it does not serve", short(&said.kind), short(&said.version)))
        }
    }
}

/// Checks the group of `group-of` against what `protocols` said.
pub fn check_group(said: &Group, protocols: &[String]) -> Checked {
    if !protocols.contains(&said.protocol) {
        return Err(format!("the protocol of a group is {:?}, which it did not name before", short(&said.protocol)));
    }
    if !(1..=limits::PARTITION_SIZE_MAX).contains(&said.partition_size) {
        let (size, max) = (said.partition_size, limits::PARTITION_SIZE_MAX);
        return Err(format!("a group has partitions of {size} members; 1 to {max} are accepted"));
    }
    at_most("bytes of a group's message", said.value.len(), limits::GROUP_BYTES_MAX)
}

fn at_most(what: &str, count: usize, max: usize) -> Checked {
    match count > max {
        true => Err(format!("{what}: {count}; at most {max} are accepted")),
        false => Ok(()),
    }
}

fn word(what: &str, text: &str) -> Checked {
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

fn dns_label(what: &str, text: &str, chars_max: usize) -> Checked {
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

fn kind_name(what: &str, text: &str) -> Checked {
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
    use crate::wit::{
        ClassSeen, Column, DatabaseSeen, Endpoint, Note, PartitionState, PartitionWanted, PlannedObject, Unsupported,
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
            endpoints: vec![Endpoint { host: text("web-1.default.svc.cluster.local"), port: 80 }],
            problem: Some(Reason { code: text("NotReady"), message: text("no server is ready") }),
        };
        Plan {
            objects: vec![object("a", "web-1"), object("b", "web-2")],
            partitions: vec![state(1), state(2)],
            unsupported: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn kind(kind: &str) -> ObjectKind {
        ObjectKind {
            group: text("apps"),
            version: text("v1"),
            kind: text(kind),
            plural: kind.to_lowercase(),
            reads: vec![text("/status")],
        }
    }

    fn descriptor() -> Descriptor {
        Descriptor {
            name: text("web"),
            version: text("0.1.0"),
            class_kinds: vec![ClassKind {
                kind: text("WebStorageClass"),
                plural: text("webstorageclasses"),
                short_names: Vec::new(),
                versions: vec![text("v1beta1")],
                spec_schema: json!({"type": "object"}),
                columns: vec![Column { name: text("Image"), data_type: text("string"), json_path: text(".spec.image") }],
            }],
            emits: vec![kind("Widget")],
            watches: vec![kind("Gadget")],
        }
    }

    #[track_caller]
    fn broken(spoil: impl FnOnce(&mut Plan), says: &str) {
        let mut plan = plan();
        assert_eq!(check_answer(&Ok(plan.clone()), &request()), Ok(()));
        spoil(&mut plan);
        let said = check_answer(&Ok(plan), &request()).expect_err("the plan is broken");
        assert!(said.contains(says), "{said}");
    }

    #[test]
    fn what_a_plan_may_not_hold_is_named() {
        broken(|plan| plan.objects[1].id = text("a"), "two objects of the plan have the id \"a\"");
        broken(
            |plan| plan.objects[1] = object("b", "web-1"),
            "two objects of the plan are Service web-1; the second is \"b\"",
        );
        broken(|plan| plan.objects[0].manifest["kind"] = json!(7), "object \"a\" has no kind");
        broken(|plan| plan.objects[0] = object("a", &"x".repeat(254)), "the name of object \"a\" has 254 characters");
        broken(|plan| plan.objects[0].id = "x".repeat(300), "characters of an object's id: 300; at most 253");
        broken(|plan| drop(plan.partitions.pop()), "2 of them was due and 1 was given");
        broken(|plan| plan.partitions.swap(0, 1), "partition 1 was due and partition 2 was given");
        broken(|plan| plan.partitions[0].endpoints[0].port = 0, "an endpoint of partition 1");
        broken(|plan| plan.partitions[1].problem = Some(Reason { code: text("not ready"), message: text("") }), "CamelCase");
        let note = Note { warning: true, reason: Reason { code: text("Odd"), message: "x".repeat(5000) } };
        broken(|plan| plan.notes.push(note.clone()), "characters of the message of a note: 5000; at most 4096");
        broken(|plan| plan.notes = vec![note.clone(); 65], "notes: 65; at most 64");
        let change = Unsupported { field: text(""), wanted: text("1"), kept: text("2"), why: text("so") };
        broken(|plan| plan.unsupported.push(change), "the field of a change not taken is empty");
    }

    #[test]
    fn a_refusal_says_why() {
        assert!(check_answer(&Err(Refusal::Invalid(Vec::new())), &request()).is_err());
        let nameless = Refusal::Waiting(Reason { code: text(""), message: text("later") });
        assert!(check_answer(&Err(nameless), &request()).is_err());
    }

    #[test]
    fn protocols_are_full_names_and_groups_speak_of_them() {
        let named = |name: &str| check_protocols(&[text("a.b_2.Message"), text(name)]);
        assert_eq!(named("Message"), Ok(()));
        for wrong in ["", ".a", "a..b", "a.2b", "a b", "type.googleapis.com/a.B", &"x".repeat(254)] {
            assert!(named(wrong).expect_err("it is refused").contains("the full name of a protobuf message"), "{wrong}");
        }
        assert_eq!(named("a.b_2.Message"), Err(text("the protocol a.b_2.Message is named twice")));
        let many: Vec<_> = (0..17).map(|i| format!("m{i}")).collect();
        assert_eq!(check_protocols(&many), Err(text("protocols: 17; at most 16 are accepted")));

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

    #[test]
    fn a_descriptor_names_itself_and_what_it_deals_with() {
        let good = descriptor();
        assert_eq!(check_descriptor(&good), Ok(()));
        let broken = |spoil: &dyn Fn(&mut Descriptor), says: &str| {
            let mut bad = good.clone();
            spoil(&mut bad);
            let said = check_descriptor(&bad).expect_err("it is refused");
            assert!(said.contains(says), "{said}");
        };
        broken(&|it| it.name = text("Web"), "the plugin's name is \"Web\"");
        broken(&|it| it.name = "x".repeat(41), "at most 40");
        broken(&|it| it.version = text("one two"), "the plugin's version");
        broken(&|it| it.class_kinds.clear(), "no class kind");
        broken(&|it| it.class_kinds[0].versions.clear(), "WebStorageClass has no version");
        broken(&|it| it.class_kinds[0].spec_schema = json!({}), "not of type object");
        broken(&|it| it.class_kinds[0].columns[0].data_type = text("text"), "the column \"Image\"");
        broken(&|it| it.watches[0] = kind("Widget"), "the kind Widget is named twice");
        broken(&|it| it.emits[0].reads = vec![text("status")], "a JSON pointer");
        broken(&|it| it.emits[0].plural = text("a/b"), "the plural of Widget");
    }
}
