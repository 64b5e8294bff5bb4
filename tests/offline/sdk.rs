//! What authors of plugins may count on of the SDK, beyond its own unit tests.

use std::fs;

use atomix_model::contract::Request;
use harness::{dist, golden, paths};
use serde_json::json;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree, Visibility};

use super::components::{plugin, sandbox};

/// Beside the SDK's own allocator, a guest that has another would not compile.
#[test]
fn a_plugin_with_an_allocator_of_its_own_plans_as_with_that_of_the_sdk() {
    let mut request: Request = golden::given(&golden::case("cache/two-partitions-fresh"));
    request.class.kind = "WebStorageClass".to_owned();
    request.class.spec = json!({"image": "web:1", "settings": true});
    plugin("web-guest"); // built
    dist::guest_alone("allocator").unwrap();
    let [with_the_sdks, with_its_own] = ["web-guest", "allocator-guest"].map(|guest| {
        let revision = sandbox().load(guest, &fs::read(dist::wasm(guest)).unwrap()).unwrap();
        revision.plan(&request).unwrap().expect("a plan")
    });
    assert_eq!(with_its_own, with_the_sdks);
}

#[test]
fn nothing_generated_shows_in_the_documentation_of_the_sdk() {
    let mut shown = Vec::new();
    for entry in fs::read_dir(paths::root().join("plugins/sdk/src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".rs") && name != "bindings.rs" {
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            shown.extend(file.items.iter().filter_map(shows_generated).map(|what| format!("{name}: {what}")));
        }
    }
    assert!(shown.is_empty(), "types that wit-bindgen generates are named by {shown:#?}");
}

/// The modules of generated types, as the SDK's sources name them.
const GENERATED: [&str; 3] = ["bindings", "wire", "groups_wire"];

/// What of an item shows a generated type to readers of the documentation, or imports one, so that it could not be
/// recognised here.
fn shows_generated(item: &Item) -> Option<String> {
    let is_public = |vis: &Visibility| matches!(vis, Visibility::Public(_));
    match item {
        Item::Use(item) if is_hidden(&item.attrs) => None,
        Item::Use(item) => imports(&item.tree, is_public(&item.vis)).then(|| "a `use`".to_owned()),
        Item::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            names(|it| it.visit_signature(&item.sig)).then(|| format!("fn {}", item.sig.ident))
        }
        Item::Struct(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            let field = item.fields.iter().find(|field| is_public(&field.vis) && names(|it| it.visit_field(field)))?;
            let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(format!("struct {}, field {name}", item.ident))
        }
        Item::Enum(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            names(|it| it.visit_item_enum(item)).then(|| format!("enum {}", item.ident))
        }
        Item::Type(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            names(|it| it.visit_type(&item.ty)).then(|| format!("type {}", item.ident))
        }
        Item::Trait(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            names(|it| it.visit_item_trait(item)).then(|| format!("trait {}", item.ident))
        }
        Item::Impl(item) if item.trait_.as_ref().is_some_and(|(_, path, _)| names(|it| it.visit_path(path))) => {
            Some("an implementation of a trait".to_owned())
        }
        Item::Impl(item) => item.items.iter().find_map(|inner| match inner {
            ImplItem::Fn(inner) if is_public(&inner.vis) && !is_hidden(&inner.attrs) => {
                names(|it| it.visit_signature(&inner.sig)).then(|| format!("fn {}", inner.sig.ident))
            }
            _ => None,
        }),
        _ => None,
    }
}

/// Whether a `use` makes a generated module public, or leads into one.
fn imports(tree: &UseTree, is_public: bool) -> bool {
    let is_generated = |name: &syn::Ident| GENERATED.iter().any(|generated| name == generated);
    match tree {
        UseTree::Path(path) => is_generated(&path.ident) || imports(&path.tree, is_public),
        UseTree::Group(group) => group.items.iter().any(|inner| imports(inner, is_public)),
        UseTree::Name(name) => is_public && is_generated(&name.ident),
        UseTree::Rename(rename) => is_generated(&rename.ident),
        UseTree::Glob(_) => false,
    }
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    let hides = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    };
    attributes.iter().any(hides)
}

/// Whether a generated module is named in what is visited.
fn names(visited: impl FnOnce(&mut Names)) -> bool {
    let mut names = Names(false);
    visited(&mut names);
    names.0
}

struct Names(bool);

impl<'a> Visit<'a> for Names {
    fn visit_ident(&mut self, name: &'a syn::Ident) {
        self.0 |= GENERATED.iter().any(|generated| name == generated);
        visit::visit_ident(self, name);
    }
}
