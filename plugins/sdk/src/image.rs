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

/// Says what is wrong with the image in the field `path`, if it is none; `like` is one that is.
pub fn check_image(path: &str, image: &str, like: &str, wrong: &mut impl FnMut(&str, String)) {
    if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        wrong(path, format!("{image:?} is no image; one like {like} is expected"));
    }
}
