//! Images of containers, as classes name them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs)] // Kubernetes' own words
#[schemars(inline)]
pub enum ImagePullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// Names what is wrong with the image in the field `path`, if it is none; `like` is one that is.
pub fn check_image(path: &str, image: &str, like: &str, wrong: &mut impl FnMut(&str, String)) {
    if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        wrong(path, format!("{image:?} is no image; one like {like} is expected"));
    }
}

/// Parts of an image's name: the last part of its repository (`etcd` of `quay.io/coreos/etcd:v3.6.8@sha256:…`), and its tag, which is
/// empty if there is none.
pub fn image_parts(image: &str) -> (&str, &str) {
    let named = image.split_once('@').map_or(image, |(named, _digest)| named);
    let last = named.rsplit_once('/').map_or(named, |(_, last)| last);
    last.split_once(':').unwrap_or((last, ""))
}

/// The first two numbers of the version that an image's tag is (`3.6` of `v3.6.8-debian`), if it is one.
pub fn image_version(image: &str) -> Option<(u32, u32)> {
    let (_, tag) = image_parts(image);
    let mut numbers = tag.strip_prefix('v').unwrap_or(tag).split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_perhaps_a_version() {
        for (image, parts, version) in [
            ("quay.io/coreos/etcd:v3.6.8", ("etcd", "v3.6.8"), Some((3, 6))),
            ("registry:5000/etcd:3.5.21-debian-12@sha256:00", ("etcd", "3.5.21-debian-12"), Some((3, 5))),
            ("etcd:v3.7-rc.1", ("etcd", "v3.7-rc.1"), Some((3, 7))),
            ("registry:5000/a/etcd", ("etcd", ""), None),
            ("etcd@sha256:3.6", ("etcd", ""), None),
            ("etcd:latest", ("etcd", "latest"), None),
            ("etcd:v3", ("etcd", "v3"), None),
        ] {
            assert_eq!((image_parts(image), image_version(image)), (parts, version), "{image}");
        }
    }
}
