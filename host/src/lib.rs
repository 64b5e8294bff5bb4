//! # The map
//!
//! A Kubernetes controller: someone applies a `Database` that names a storage class; a plugin, WebAssembly that decides and
//! does nothing else, returns the Kubernetes objects that this class of storage needs; the controller writes them and
//! reports how it goes.
//!
//! ```text
//!  kubectl ──► API server ◄─────────────────────────────────────────────── status, Events
//!                │ watches                                                      ▲
//!                ▼                                                              │
//!             cache ────────────► observe ──► sandbox ──► admission ──► apply ──► status
//!                │                (reads)     (thinks)    (checks)      (writes)  (reports)
//!                ▼                               ▲          ▲
//!             catalog ── ConfigMap → loaded ─────┘          │
//!                     └─ ClusterRole → grants ──────────────┘
//!
//!  kubectl, ──► API server ──watches──► view ──► api ──► gRPC clients
//!  controller        ▲                            │
//!                    └─ members, primitives, ─────┘
//!                       groups, elections
//! ```
//!
//! `controller` is the arrow from left to right, for one database at a time. Types carry the order: a
//! [`Plan`](atomix_model::contract::Plan) is untrusted, only `admission` makes an [`Admitted`](atomix_decide::admission::Admitted) of it,
//! only `apply` an [`Applied`](atomix_controller_kube::apply::Applied) of that.
//!
//! ## Invariants
//!
//! 1. A settled cluster is silent: no change, no API request beyond open watches and leases.
//! 2. Every write can be the last one: what must not be lost is recorded in the Database's status before what depends on it.
//! 3. A plugin imports nothing: same bytes and same request, same plan and same fuel.
//! 4. A plugin writes only what its ClusterRole grants, only namespaced kinds, only into its database's namespace.
//! 5. A bad plugin changes nothing: what runs stays as it is, and status has the cause.
//! 6. Data is not deleted by surprise: volume claims are never removed, nothing is removed before all applies succeeded, and a
//!    plan that changed by itself and would disturb a workload is held until an administrator accepts it.
//! 7. Nothing foreign is touched: an object of the right name and another owner is reported.
//! 8. One malformed object hides no other.
//! 9. Everything that could grow has a limit, in [`limits`](atomix_model::limits).
//! 10. What was published stays readable: contract versions, resource versions.
//!
//! ## Crates, lowest first
//!
//! Each crate uses only those above it in this table; Cargo forbids the rest.
//!
//! | crate | what it is | uses of ours |
//! |---|---|---|
//! | `host/model` | the shared types: resources (`crd`), the contract with plugins (`contract`), kinds and live objects, grants, faults, names, limits | |
//! | `host/decide` | decisions as plain functions, without client, waiting and clock: `observe`, `admission`, `diff`, `intent` (what is recorded before a plan is written, and whether it may be written), `last_taken` (the class as it was, while an edit of it is not taken), `objects` (what is written and removed, and what that disturbs), `plan_churn`, `status` | model |
//! | `host/sandbox` | one call of one plugin: contract versions, limits, errors that name the plugin | model |
//! | `host/io` | the edges that the next two share: `cache`, `leader`, `api_client` (requests that give up in time), `connections` (bounds for the servers), `tasks` (what must never end), `metrics` | model |
//! | `host/kube` | reconciling: `catalog` (plugins as they come and go), `apply`, `controller` (the pass over one database; beside it `triggers`, which change starts which pass, `watch_set`, which kinds are watched, `plugins` and `gauges`), `webhook` | model, decide, sandbox, io |
//! | `host/grpc` | the gRPC API: `proto` (messages), `view` (what clients may see), `api` (the services) | model, io |
//! | `host` | this one, the program: flags, wiring, logs, health, commands | all |
//!
//! `controller` and `api` meet in Kubernetes only. `leader` elects the replica that reconciles, and lets no other write; all
//! of them watch, load plugins and serve. New bytes of a plugin are tried in a process of their own,
//! `catalog/trial_process`, and loaded by `catalog/loading`. Which of two revisions' plans is written is decided in
//! `controller/hold`; where the newest class or revision cannot be planned, `controller` prepares the plan by the one before; when the rollout of an edit waits, and which pods are deleted so that it goes on, in `objects/waiting_rollout` and
//! `objects/stalled_rollout`; what is written again and again is slowed down by `objects/competing_writes` (another client writes
//! too) and `plan_churn` (the plan changes by itself). The host knows no storage: not one is named here.
//!
//! ## Absent on purpose
//!
//! Host imports for plugins, polling, finalizers, a database of our own, a requeue without a cause.

pub mod cli;
pub mod pack;
pub mod telemetry;
