//! Faults that are put into the model on purpose: each must be found, or the model shows nothing.

/// One thing that the controller, or the API server for it, does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seeded {
    /// A plan is written before it is recorded.
    NothingRecorded,
    /// An object is removed by its name alone.
    RemovedByName,
    /// A replica writes on when it does not lead any more.
    NoFence,
    /// A replica that leads again begins although passes of its earlier term go on.
    PassesOutliveTerms,
    /// The API server is not read to confirm that what is seen is what is there.
    NothingConfirmed,
    /// Only the generations are compared, and not whether something else was recorded.
    OnlyGenerationsConfirmed,
    /// What disturbs is never held.
    NothingHeld,
    /// What is there is not compared: all is written again.
    NothingCompared,
    /// A pass that wrote something is not followed by another.
    NoLookAgain,
    /// Drift is repaired without confirming that what is seen is what is there.
    RepairsUnconfirmed,
    /// What other clients edited is not seen.
    NoDriftSeen,
    /// What the plan no longer holds is removed although something could not be written.
    PrunesAnyway,
}
