//! What users, tools and metrics read of a resource's state: condition types, reasons, phases and Events, each once. Nothing compares
//! their texts. `docs/reference.md` has a row for each, and a test keeps it so.

use std::fmt;

/// Who must act on a condition with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: it is as it should be, or goes on by itself.
    Nobody,
    /// Whoever wrote the Database or its storage class.
    User,
    /// Whoever runs the cluster: rights, names, definitions, capacity.
    Administrator,
    /// The author of the plugin.
    Author,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Actor::Nobody => "nobody",
            Actor::User => "user",
            Actor::Administrator => "administrator",
            Actor::Author => "plugin's author",
        })
    }
}

/// A word, what it means, and what to do about it: a row of the reference.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// As it stands in the API.
    pub text: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Who must act.
    pub actor: Actor,
    /// What to do; empty if nothing.
    pub remedy: &'static str,
}

/// Defines an enum whose variants are words of the API, with a table of what they mean.
macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident { $(#[doc = $meaning:literal] $variant:ident: $actor:ident $(, $remedy:literal)?;)+ } $($rest:tt)*) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
            $($rest)*
        }

        impl $name {
            /// Every word, with what it means.
            pub const WORDS: &'static [Word] = &[
                $(Word { text: stringify!($variant), meaning: $meaning.trim_ascii(), actor: Actor::$actor, remedy: concat!($($remedy)?) },)+
            ];

            /// The variant of a word.
            #[allow(dead_code, reason = "Events are only written")]
            fn known(text: &str) -> Option<$name> {
                match text {
                    $(stringify!($variant) => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

vocabulary! {
    /// The type of a condition. All but `Degraded`, `Reconciling` and `Stalled` are good when they are True.
    #[derive(Copy)]
    ConditionType {
        /// The spec, with its storage class, is taken as it stands.
        Accepted: Nobody;
        /// Every partition wanted answers; of a StoragePlugin: a revision serves.
        Ready: Nobody;
        /// A change is under way; False says that none is, or what stops it.
        Progressing: Nobody;
        /// Something that was well is not, or took too long.
        Degraded: Nobody;
        /// False while newer bytes of the plugin were refused or are not used, since a revision is pinned; absent otherwise.
        PluginCurrent: Nobody;
        /// For kstatus: it is on its way. True or absent, never beside Stalled.
        Reconciling: Nobody;
        /// For kstatus: only a person ends this. True or absent.
        Stalled: Nobody;
    }
}

vocabulary! {
    /// Why a condition is as it is.
    Reason {
        /// The spec and its class are taken.
        Accepted: Nobody;
        /// Taken, with the class of the Database's own namespace: there is none in the namespace that the reference names.
        ClassFromOwnNamespace: Nobody, "name the class's namespace in the reference, or leave it out";
        /// Every partition answers.
        Ready: Nobody;
        /// Nothing is missing.
        AsExpected: Nobody;
        /// Nothing is under way.
        Settled: Nobody;
        /// A change is being written.
        Applying: Nobody;
        /// Members are replaced one after the other.
        RollingOut: Nobody;
        /// Every partition answers, and not all of its members have come up yet.
        MembersStarting: Nobody, "if it takes long, `kubectl describe` the pods";
        /// Members run the new revision once their pods are deleted: the workload's strategy is OnDelete.
        WaitsForDeletion: User, "delete the pods one by one, waiting for each to be ready";
        /// Not every partition answers yet.
        PartitionsNotReady: Nobody, "read the condition's message, then `kubectl describe` the pods";
        /// Members are not ready, and nothing says why.
        MembersNotReady: Nobody, "read the log of the pods";
        /// Nothing has moved for the time that a start or a rollout may take.
        ProgressDeadlineExceeded: Administrator, "the message names what is waited for: capacity, an image, a volume, or a wrong setting";
        /// Fields that the plugin or the API server does not accept, each named in the message.
        Invalid: User, "correct the fields that are named; what a policy refused heals when the policy allows it";
        /// The running storage cannot make this change; what runs goes on as it was.
        ChangeNotTaken: User, "take the edit back, or create another Database";
        /// The reference's group is not that of storage classes.
        ClassGroupUnknown: User, "leave spec.storageClass.group out, or set storage.cloud.atomix.io";
        /// The reference asks for a version that the class's kind is not served in.
        ClassVersionNotServed: User, "leave spec.storageClass.version out, or name one that the message lists";
        /// Databases in the controller's own namespace are not run unless a flag allows it.
        NamespaceRefused: User, "create the Database in another namespace, or start the controller with --allow-own-namespace";
        /// The object does not fit its schema, and its status records nothing to go on with.
        Malformed: User, "correct the field that the message names";
        /// There is no object of the class's kind and name.
        ClassNotFound: User, "create the class, or correct the reference";
        /// No plugin serves the class's kind.
        NoPlugin: Administrator, "install the plugin, or use one of the kinds that the message lists";
        /// A definition is not installed.
        DefinitionMissing: Administrator, "apply the plugin's manifest, or the definition that the message names";
        /// Caches are being filled.
        Starting: Nobody;
        /// An object of the plan is on its way out, and is made again when it is gone.
        Terminating: Nobody, "if it takes long, look for finalizers on the object";
        /// The plan of a newer revision would restart, shrink or delete something although nobody edited anything.
        Held: Administrator, "read what would happen; accept it with the annotation that the message names";
        /// An object of that name is there and belongs to somebody else.
        NameTaken: Administrator, "delete or rename the object, or take over what an earlier Database left with the command in the message";
        /// The controller may not do what it needs to.
        Forbidden: Administrator, "apply the roles of deploy/ and the plugin's ClusterRole; look for policies and quotas";
        /// Objects of an earlier plan are left, since they may not be looked for or deleted.
        NotPruned: Administrator, "grant the verb that the message names, or remove the objects";
        /// Somebody else writes a field that the plan sets.
        FieldContested: Administrator, "let only one of the two write the field: the message names the field and its manager";
        /// The plugin broke its contract, trapped or reached a limit; what runs is kept.
        PluginFailed: Author, "report the message to the plugin's author; install an older revision meanwhile";
        /// The plugin plans something else again and again although nobody edited anything.
        PlanUnsettled: Author, "report the message to the plugin's author";
        /// Newer bytes of the plugin are refused; an older revision serves on, if there was one.
        Refused: Author, "read why, and apply a ConfigMap with good bytes";
        /// A revision of the plugin serves.
        Serving: Nobody;
        /// The plugin's bytes are being loaded.
        Loading: Nobody;
        /// The plugin's ConfigMap is gone; the revision that served last serves on until its StoragePlugin is deleted.
        Removed: Administrator, "apply the plugin's manifest again, or delete the StoragePlugin";
        /// An annotation names the revision that is used, and there is a newer one.
        Pinned: Nobody, "remove the annotation storage.cloud.atomix.io/revision, and the newer one is used";
        /// An annotation names a revision that is not kept; what was used before is.
        RevisionNotKept: Administrator, "name one of those that the message lists, or remove the annotation storage.cloud.atomix.io/revision";
        /// The API server gave no answer, or failed.
        ApiUnavailable: Nobody, "if it lasts, look at the API server";
        /// Somebody else changed the object at the same moment.
        Conflict: Nobody;
        /// What an object refers to is not there.
        NotFound: Nobody, "create what the message names";
        /// Objects of a kind cannot be watched.
        WatchFailed: Administrator, "grant list and watch for the kind that the message names";
    }
    /// A reason in the words of a plugin or of Kubernetes, such as `NoLeader` or `FailedScheduling`.
    Other(String),
}

vocabulary! {
    /// What an Event of a Database or a Partition is about, where it is no condition's reason.
    #[derive(Copy)]
    EventReason {
        /// There are more partitions than before.
        PartitionsAdded: Nobody;
        /// There are fewer partitions than before.
        PartitionsRemoved: Nobody;
        /// Members begin to be replaced.
        RolloutStarted: Nobody;
        /// All members run the new revision.
        RolledOut: Nobody;
        /// Not every partition answers any more.
        NotReady: Nobody, "read the message, then `kubectl describe` the pods";
        /// What was missing is back.
        Recovered: Nobody;
        /// Newer bytes of the plugin are refused.
        PluginRefused: Author, "read why, and apply a ConfigMap with good bytes";
        /// The plugin's ConfigMap is gone; the revision that served last serves on.
        PluginRemoved: Administrator, "apply the plugin's manifest again, or delete the StoragePlugin";
    }
}

impl ConditionType {
    /// As it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Accepted => "Accepted",
            ConditionType::Ready => "Ready",
            ConditionType::Progressing => "Progressing",
            ConditionType::Degraded => "Degraded",
            ConditionType::PluginCurrent => "PluginCurrent",
            ConditionType::Reconciling => "Reconciling",
            ConditionType::Stalled => "Stalled",
        }
    }

    /// The type of a condition that stands in a status; None if it is not one of ours.
    pub fn of(text: &str) -> Option<ConditionType> {
        ConditionType::known(text)
    }
}

impl Reason {
    /// The reason of a word that stands in a status, or that a plugin or Kubernetes gave.
    pub fn of(text: &str) -> Reason {
        Reason::known(text).unwrap_or_else(|| Reason::Other(text.to_owned()))
    }

    /// Whether its messages hold a digest or a hash that tells one from another, or that a person types: of two that differ in that alone, the
    /// older is wrong.
    pub fn names_a_digest(&self) -> bool {
        use Reason::{Held, Pinned, Refused, Removed, RevisionNotKept, Serving};
        matches!(self, Held | Pinned | Refused | Removed | RevisionNotKept | Serving)
    }

    /// Whether it may be a reason of members that are missing. Others are of what the controller could not do: they end with that.
    pub fn may_be_of_members(&self) -> bool {
        matches!(self, Reason::MembersNotReady | Reason::ProgressDeadlineExceeded | Reason::NotFound | Reason::Other(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Other(text) => f.write_str(text),
            known => fmt::Debug::fmt(known, f),
        }
    }
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a Database stands, in a word: `status.phase`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All partitions answer.
    Ready,
    /// On its way.
    Progressing,
    /// It answers, but something is missing.
    Degraded,
    /// Something keeps it from what its spec asks for, in a word.
    Blocked(Reason),
}

impl Phase {
    /// The phase that stands in a status.
    pub fn of(text: &str) -> Phase {
        match text {
            "Ready" => Phase::Ready,
            "Progressing" => Phase::Progressing,
            "Degraded" => Phase::Degraded,
            other => Phase::Blocked(Reason::of(other)),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Blocked(reason) => reason.fmt(f),
            known => fmt::Debug::fmt(known, f),
        }
    }
}

/// Where a StoragePlugin stands, in a word: `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginPhase {
    /// Its newest bytes serve.
    Serving,
    /// Its newest bytes are being loaded; an older revision may serve meanwhile.
    Loading,
    /// Its newest bytes were refused; an older revision may serve on.
    Refused,
    /// Its bytes are gone; the revision that served last serves on until its StoragePlugin is deleted.
    Removed,
    /// A revision serves that an annotation names, and its newest bytes do not.
    Pinned,
    /// An annotation names a revision that is not kept; what served serves on.
    RevisionNotKept,
}

impl PluginPhase {
    /// The reason of the conditions in this phase.
    pub fn reason(self) -> Reason {
        match self {
            PluginPhase::Serving => Reason::Serving,
            PluginPhase::Loading => Reason::Loading,
            PluginPhase::Refused => Reason::Refused,
            PluginPhase::Removed => Reason::Removed,
            PluginPhase::Pinned => Reason::Pinned,
            PluginPhase::RevisionNotKept => Reason::RevisionNotKept,
        }
    }
}

impl fmt::Display for PluginPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_status_is_read_as_what_was_written() {
        for word in Reason::WORDS {
            let reason = Reason::of(word.text);
            assert!(!matches!(reason, Reason::Other(_)) && reason.to_string() == word.text, "{word:?}");
            assert!(word.meaning.ends_with('.') && !word.remedy.ends_with('.'), "{word:?}");
            let somebody = word.actor != Actor::Nobody;
            assert!(!somebody || !word.remedy.is_empty(), "{}: there is a remedy where somebody must act", word.text);
        }
        assert_eq!(Reason::of("NoLeader").to_string(), "NoLeader");
        for word in ConditionType::WORDS {
            assert_eq!(ConditionType::of(word.text).map(|type_| type_.as_str()), Some(word.text));
        }
        for text in ["Ready", "Progressing", "Degraded", "ChangeNotTaken", "FailedScheduling"] {
            assert_eq!(Phase::of(text).to_string(), text);
        }
        assert_eq!(Phase::of("ChangeNotTaken"), Phase::Blocked(Reason::ChangeNotTaken));
    }
}
