//! What a plugin did wrong, and which plugin it was. Knows no Kubernetes.

use std::fmt;

/// A plugin broke its promise; its author must act, and what runs is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFault {
    /// Name of the plugin: what `describe` said, else what the caller called it.
    pub plugin: String,
    /// The plugin's own version, once it has said it.
    pub version: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// What is wrong.
    pub what: Wrong,
}

/// What is wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The bytes are no plugin, or larger than a plugin may be.
    Bytes(String),
    /// It imports something, named here; a plugin imports nothing.
    Imports(String),
    /// It was built against a version of the contract that is not served.
    Contract(String),
    /// A call ended in a trap or at a limit.
    GaveUp {
        /// The function called.
        during: &'static str,
        /// How it ended.
        said: String,
    },
    /// An answer is not what the contract allows.
    Promise(String),
}

impl Wrong {
    pub(super) fn during(self, function: &'static str) -> Self {
        match self {
            Self::GaveUp { said, .. } => Self::GaveUp { during: function, said },
            other => other,
        }
    }
}

impl fmt::Display for PluginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}", self.plugin)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        write!(f, " (sha256 {}): {}", self.digest.get(..12).unwrap_or(&self.digest), self.what)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(why) => write!(f, "not a plugin: {why}"),
            Self::Imports(name) => write!(f, "it imports {name}; a plugin may import nothing"),
            Self::Contract(why) => f.write_str(why),
            Self::GaveUp { during, said } => write!(f, "{during} gave no answer: {said}"),
            Self::Promise(why) => write!(f, "it broke the contract: {why}"),
        }
    }
}

impl std::error::Error for PluginFault {}
