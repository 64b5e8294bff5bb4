//! The interface to plugins: which of them serves a group that a client describes, and which class that is.

use futures::future::BoxFuture;

use atomix_model::contract::{FieldError, GroupClass};
use atomix_model::object::Kind;

/// A group as a client describes it.
pub struct GroupRequest {
    /// Full name of the protobuf message.
    pub protocol: String,
    /// The message as protobuf encodes it.
    pub value: Vec<u8>,
    /// Members of each partition.
    pub partition_size: u32,
}

/// A class, with its kind unless its plugin is just being replaced; or the fields that are wrong.
pub type Class = Result<(GroupClass, Option<Kind>), Vec<FieldError>>;

/// The plugins that are loaded.
pub trait Plugins: Send + Sync {
    /// Names of plugins and of the protobuf messages that they serve, sorted.
    fn protocols(&self) -> Vec<(String, String)>;

    /// Whether a plugin serves messages of this full name.
    fn understands(&self, protocol: &str) -> bool;

    /// Waits until no plugin's bytes are being loaded.
    fn loaded(&self) -> BoxFuture<'_, ()>;

    /// Calls the plugin that serves the message; None if there is none. It blocks for as long as a call of a plugin may
    /// take.
    ///
    /// # Errors
    /// The plugin failed; the text names it.
    fn class_of(&self, request: &GroupRequest) -> Result<Option<Class>, String>;
}
