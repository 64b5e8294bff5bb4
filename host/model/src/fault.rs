//! What can go wrong with a database, sorted by who must act. Conditions, events, retries and metrics are matches over this.

use std::fmt;

use crate::condition::Reason;
use crate::contract::{self, FieldError};

/// Why a database could not be brought to what its user asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The user must change something: shown in status, and then an edit is waited for.
    User {
        /// Condition reason, e.g. [`Reason::ClassVersionNotServed`].
        reason: Reason,
        /// What is wrong and what to do.
        message: String,
    },
    /// The API server does not take an object as it was planned. Whoever made it so must act: the user by the class, the
    /// plugin's author, or the owner of a policy, a webhook or a quota of names. So it is tried again too, less and less
    /// often.
    Refused {
        /// What was tried, on what, what the API answered, and the plugin that planned it.
        message: String,
    },
    /// The caches are not whole, or older than what this controller or the one before it wrote. They will be, and that
    /// starts the next pass.
    Unseen {
        /// What is not seen yet.
        message: String,
    },
    /// Another client writes what the controller writes. It goes on at a slow pace.
    Contested {
        /// The field, the object, and the other manager.
        message: String,
    },
    /// The plugin's plan changes again and again although nothing was edited. It goes on at a slow pace.
    Unsettled {
        /// Names the plugin and what changes.
        message: String,
    },
    /// Something must come first, and its arrival starts a pass: no retry.
    Waiting {
        /// Condition reason, e.g. [`Reason::DefinitionMissing`], or the plugin's own.
        reason: Reason,
        /// What is waited for.
        message: String,
    },
    /// The plugin broke its contract: named with version and digest; what runs is kept.
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
    /// Nobody need act: the cluster may recover by itself; tried again with a growing pause.
    Cluster {
        /// Condition reason, e.g. [`Reason::NameTaken`].
        reason: Reason,
        /// What was tried, on what, and what the API answered.
        message: String,
    },
}

impl Fault {
    /// The user's fault.
    pub fn user(reason: Reason, message: impl Into<String>) -> Fault {
        Fault::User { reason, message: message.into() }
    }

    /// Waiting for something whose arrival starts a pass.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Fault {
        Fault::Waiting { reason, message: message.into() }
    }

    /// Fields of the class or the database that the plugin does not accept.
    pub fn invalid(class: &str, errors: &[FieldError]) -> Fault {
        let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
        Fault::user(Reason::Invalid, format!("{class}: {}", errors.join("; ")))
    }

    /// The plugin waits for something.
    pub fn from_reason(reason: contract::Reason) -> Fault {
        Fault::Waiting { reason: Reason::of(&reason.code), message: reason.message }
    }

    /// Condition reason.
    pub fn reason(&self) -> Reason {
        match self {
            Fault::User { reason, .. } | Fault::Cluster { reason, .. } | Fault::Waiting { reason, .. } => reason.clone(),
            Fault::Refused { .. } => Reason::Invalid,
            Fault::Unseen { .. } => Reason::Starting,
            Fault::Contested { .. } => Reason::FieldContested,
            Fault::Unsettled { .. } => Reason::PlanUnsettled,
            Fault::Plugin { .. } => Reason::PluginFailed,
            Fault::Held { .. } => Reason::Held,
        }
    }

    /// The message, without the reason.
    pub fn message(&self) -> &str {
        match self {
            Fault::User { message, .. }
            | Fault::Waiting { message, .. }
            | Fault::Refused { message }
            | Fault::Unseen { message }
            | Fault::Contested { message }
            | Fault::Unsettled { message }
            | Fault::Plugin { message }
            | Fault::Held { message, .. }
            | Fault::Cluster { message, .. } => message,
        }
    }

    /// Whether it is expected to go by itself and tried again until then.
    pub fn retried(&self) -> bool {
        matches!(self, Fault::Cluster { .. } | Fault::Plugin { .. })
    }

    /// Whether something of the spec is not taken (rather than that something runs badly).
    pub fn spec_not_taken(&self) -> bool {
        use Fault::{Held, Refused, Unseen, User, Waiting};
        matches!(self, User { .. } | Refused { .. } | Waiting { .. } | Unseen { .. } | Held { .. })
    }

    /// Whether something is wrong that a person looks at. That another client was faster is not: the next pass sees what it wrote.
    pub fn degrades(&self) -> bool {
        !self.spec_not_taken() && self.reason() != Reason::Conflict
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.message())
    }
}

impl std::error::Error for Fault {}
