//! The methods that are served, as their descriptors name them: which are counted by name, which wait for the view, whose
//! health is published.

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto;

/// A method that is counted by name. Any other is `other`: labels are not the client's to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// Service and method, as in the path of a call.
    pub(super) name: &'static str,
    /// Whether it needs the view: every method of ours does.
    pub(super) waits: bool,
}

/// Methods in the descriptors, read once, and whether each is ours.
static KNOWN: LazyLock<Vec<(String, bool)>> = LazyLock::new(|| {
    let others = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let ours = methods(proto::DESCRIPTORS).into_iter().map(|name| (name, true));
    ours.chain(others.into_iter().flat_map(methods).map(|name| (name, false))).collect()
});

/// Services and methods of a descriptor set, as in paths.
fn methods(descriptors: &[u8]) -> Vec<String> {
    let files = FileDescriptorSet::decode(descriptors).expect("a descriptor set that was compiled in");
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let services = file.service.iter().flat_map(|service| service.method.iter().map(move |method| (service, method)));
        let name = |(service, method): (&prost_types::ServiceDescriptorProto, &prost_types::MethodDescriptorProto)| {
            format!("{}.{}/{}", file.package(), service.name(), method.name())
        };
        services.map(name).collect::<Vec<_>>()
    };
    files.file.iter().flat_map(of_file).collect()
}

/// The method that a path of HTTP/2 names; `other` if it is none of ours.
pub(super) fn method(path: &str) -> Method {
    let path = path.strip_prefix('/').unwrap_or(path);
    let found = KNOWN.iter().find(|(name, _)| name == path);
    found.map_or(Method { name: "other", waits: false }, |(name, waits)| Method { name, waits: *waits })
}

/// Services of ours, by their full names.
pub(super) fn services() -> Vec<&'static str> {
    let mut services: Vec<_> =
        KNOWN.iter().filter(|(_, ours)| *ours).filter_map(|(name, _)| Some(name.split_once('/')?.0)).collect();
    services.dedup();
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_described_is_counted_by_its_name_and_ours_wait_for_the_view() {
        let ours = methods(proto::DESCRIPTORS);
        assert_eq!(ours.len(), 12, "{ours:?}");
        for name in &ours {
            let method = method(&format!("/{name}"));
            assert_eq!((method.name, method.waits), (name.as_str(), true));
        }
        for name in ["grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
            assert_eq!(method(name), Method { name, waits: false });
        }
        assert_eq!(method("/x/y").name, "other");
        assert_eq!(services().len(), 4, "{:?}", services());
    }
}
