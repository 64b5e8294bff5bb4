//! What can go wrong with a database, sorted by who must act. Conditions, events, retries and metrics are matches over this.

use std::fmt;

use crate::wit::{FieldError, Reason};

/// Why a database could not be brought to what its user asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The user must change something: shown in status, and then an edit is waited for.
    User {
        /// Condition reason, e.g. `ClassNotFound`.
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// Something must come first, and its coming wakes us: no retry.
    Waiting {
        /// Condition reason, e.g. `DefinitionMissing`.
        reason: String,
        /// What is waited for.
        message: String,
    },
    /// The plugin broke its promise: blamed by name, version and digest; what runs is kept.
    Plugin {
        /// Names the plugin, its version and its digest.
        message: String,
    },
    /// An administrator decides: the plan would disturb what runs although neither the database nor its class was edited.
    Held {
        /// Hash of the plan, to be accepted.
        plan: String,
        /// What would happen.
        message: String,
    },
    /// Nobody's: the cluster may heal by itself; tried again with a growing pause.
    Cluster {
        /// Condition reason, e.g. `NameTaken`, `Forbidden`.
        reason: &'static str,
        /// What was tried, on what, and what the API answered.
        message: String,
    },
}

impl Fault {
    /// The user's fault.
    pub fn user(reason: &'static str, message: impl Into<String>) -> Fault {
        Fault::User { reason, message: message.into() }
    }

    /// Waiting for something whose coming wakes us.
    pub fn waiting(reason: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault::Waiting { reason: reason.into(), message: message.into() }
    }

    /// Fields of the class or the database that the plugin does not accept.
    pub fn invalid(class: &str, errors: &[FieldError]) -> Fault {
        let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
        Fault::user("Invalid", format!("{class}: {}", errors.join("; ")))
    }

    /// The plugin waits for something.
    pub fn from_reason(reason: Reason) -> Fault {
        Fault::Waiting { reason: reason.code, message: reason.message }
    }

    /// Condition reason.
    pub fn reason(&self) -> &str {
        match self {
            Fault::User { reason, .. } | Fault::Cluster { reason, .. } => reason,
            Fault::Waiting { reason, .. } => reason,
            Fault::Plugin { .. } => "PluginFailed",
            Fault::Held { .. } => "Held",
        }
    }

    /// What a person should read.
    pub fn message(&self) -> &str {
        match self {
            Fault::User { message, .. }
            | Fault::Waiting { message, .. }
            | Fault::Plugin { message }
            | Fault::Held { message, .. }
            | Fault::Cluster { message, .. } => message,
        }
    }

    /// Whether it is tried again by itself.
    pub fn retried(&self) -> bool {
        matches!(self, Fault::Cluster { .. } | Fault::Plugin { .. })
    }

    /// Whether something of the spec is not taken (rather than that something runs badly).
    pub fn spec_not_taken(&self) -> bool {
        matches!(self, Fault::User { .. } | Fault::Waiting { .. } | Fault::Held { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.message())
    }
}

impl std::error::Error for Fault {}
