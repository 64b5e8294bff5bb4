//! What a plugin did wrong, and which plugin it was. Knows no Kubernetes.

use std::fmt;

use atomix_model::contract::plain;

/// A plugin broke its contract; its author must act, and what runs is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFault {
    /// Name of the plugin: the one in its descriptor, else the one that the caller passed.
    pub plugin: String,
    /// The plugin's own version, once it was described.
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
    /// It cannot be loaded; the message is that of the process that tried.
    Loading(String),
    /// It imports something, named here; a plugin imports nothing.
    Imports(String),
    /// It was built against a version of the contract that is not served.
    Contract(String),
    /// A call ended in a trap or at a limit.
    GaveUp {
        /// The function called.
        during: &'static str,
        /// How it ended.
        how: String,
    },
    /// An answer is not what the contract allows.
    Promise(String),
}

impl Wrong {
    pub(super) fn during(self, function: &'static str) -> Self {
        match self {
            Self::GaveUp { how, .. } => Self::GaveUp { during: function, how },
            other => other,
        }
    }
}

impl fmt::Display for PluginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}", plain(&self.plugin))?;
        if let Some(version) = &self.version {
            write!(f, " {}", plain(version))?;
        }
        let what = plain(&self.what.to_string()); // it may hold names that the guest chose
        write!(f, " (sha256 {}): {what}", self.digest.get(..12).unwrap_or(&self.digest))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(why) => write!(f, "not a plugin: {why}"),
            Self::Imports(name) => write!(f, "it imports {name}; a plugin may import nothing"),
            Self::Contract(why) | Self::Loading(why) => f.write_str(why),
            Self::GaveUp { during, how } => write!(f, "{during} gave no answer: {how}"),
            Self::Promise(why) => write!(f, "it broke the contract: {why}"),
        }
    }
}

impl std::error::Error for PluginFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_fault_does_nothing_to_a_terminal() {
        let what = Wrong::Imports("a\u{1b}[2J\nb".to_owned());
        let fault = PluginFault { plugin: "p\n".to_owned(), version: None, digest: "d".repeat(64), what };
        assert!(!fault.to_string().contains(char::is_control), "{fault:?}");
    }
}
