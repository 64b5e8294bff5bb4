//! RedisStorageClass: what a user writes, and what can be wrong with it. Knows no database.

use atomix_resp::PrimaryWithoutData;
use atomix_sdk::{FieldError, ImagePullPolicy, check_image, check_number, field_error};
use schemars::JsonSchema;
use serde::Deserialize;

/// Partitions are kept by Redis servers behind a proxy that Atomix clients connect to. A cluster answers while its first server and its
/// proxy do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisClass {
    /// What clients connect to: one pod for each cluster.
    #[serde(default)]
    pub proxy: Proxy,

    /// The Redis servers of each cluster.
    #[serde(default)]
    pub backend: Backend,
}

/// What clients connect to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Proxy {
    /// Image of the proxy.
    #[serde(default = "proxy_image")]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
}

/// The Redis servers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Backend {
    /// Image of the servers, with redis-server, redis-cli and sh.
    #[serde(default = "backend_image")]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Servers of each cluster (1 to 9): the first, and copies of it. It may change at any time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: u32,

    /// What the first server does whose volume has no data, while a copy has some or cannot be asked: Wait until a person has decided,
    /// CopyFromReplica, or StartEmpty, after which copies lose theirs. No server restarts when it changes.
    #[serde(default)]
    pub primary_without_data: PrimaryWithoutData,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { image: proxy_image(), image_pull_policy: ImagePullPolicy::default() }
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            image: backend_image(),
            image_pull_policy: ImagePullPolicy::default(),
            replicas: one(),
            primary_without_data: PrimaryWithoutData::default(),
        }
    }
}

/// Names what is wrong with a class beyond what its schema refuses.
pub fn check(class: &RedisClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    check_image("spec.proxy.image", &class.proxy.image, &proxy_image(), &mut wrong);
    check_image("spec.backend.image", &class.backend.image, &backend_image(), &mut wrong);
    check_number("spec.backend.replicas", (class.backend.replicas.into(), " servers"), 1..=9, &mut wrong);
    errors
}

fn one() -> u32 {
    1
}

fn proxy_image() -> String {
    "atomix/redis-storage-node:latest".to_owned()
}

fn backend_image() -> String {
    "redis:7.2".to_owned()
}
