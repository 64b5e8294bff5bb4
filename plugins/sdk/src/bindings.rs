//! What wit-bindgen generates from `wit/v0.1`. It is public for [`crate::export!`] alone: authors meet the types of [`crate::types`], which
//! stand in place of the generated ones.
#![allow(missing_docs, unsafe_code, clippy::all)]

pub mod contract {
    wit_bindgen::generate!({
        path: "wit/v0.1",
        world: "storage-plugin",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "atomix_sdk::bindings::contract",
        with: {
            "atomix:storage/plugin@0.1.0/database": crate::types::Database,
            "atomix:storage/plugin@0.1.0/request": crate::types::Request,
            "atomix:storage/plugin@0.1.0/class": crate::types::ObservedClass,
            "atomix:storage/plugin@0.1.0/partition": crate::types::Partition,
            "atomix:storage/plugin@0.1.0/observed-object": crate::types::ObservedObject,
            "atomix:storage/plugin@0.1.0/observed-field": crate::types::ObservedField,
            "atomix:storage/plugin@0.1.0/storage-plan": crate::types::StoragePlan,
            "atomix:storage/plugin@0.1.0/object": crate::types::Object,
            "atomix:storage/plugin@0.1.0/partition-state": crate::types::PartitionState,
            "atomix:storage/plugin@0.1.0/endpoint": crate::types::Endpoint,
            "atomix:storage/plugin@0.1.0/reason": crate::types::Reason,
            "atomix:storage/plugin@0.1.0/unsupported-change": crate::types::UnsupportedChange,
            "atomix:storage/plugin@0.1.0/note": crate::types::Note,
            "atomix:storage/plugin@0.1.0/field-error": crate::types::FieldError,
            "atomix:storage/plugin@0.1.0/refusal": crate::types::Refusal,
        },
    });
}

/// The optional interface alone; a plugin that exports both worlds is one component in the end.
pub mod groups {
    wit_bindgen::generate!({
        inline: "package atomix:sdk; world only-groups { export atomix:storage/groups@0.1.0; }",
        path: "wit/v0.1",
        world: "atomix:sdk/only-groups",
        pub_export_macro: true,
        export_macro_name: "export_groups",
        default_bindings_module: "atomix_sdk::bindings::groups",
        with: { "atomix:storage/groups@0.1.0/field-error": crate::types::FieldError },
        additional_derives: [PartialEq],
    });
}
