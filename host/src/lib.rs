//! # The map
//!
//! A Kubernetes controller: someone applies a `Database` that names a storage class; a plugin, WebAssembly that decides and does
//! nothing else, says which Kubernetes objects that class of storage needs; the controller writes them and tells how it goes.
//!
//! ```text
//!  kubectl ──► API server ◄─────────────────────────────────────────── status, Events
//!                │ watches                                                  ▲
//!                ▼                                                          │
//!             cache ────────────► observe ──► sandbox ──► admit ──► apply ──► status
//!                │                (distil)    (plan)      (check)   (write)   (tell)
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
//! `controller` is the arrow from left to right, for one database at a time. Types carry the order: a [`wit::Plan`] is untrusted,
//! only [`admit`] makes an [`admit::Admitted`] of it, only [`apply`] an [`apply::Applied`] of that.
//!
//! ## Invariants
//!
//! 1. A settled cluster is silent: no change, no API request beyond open watches and leases.
//! 2. Every write can be the last one: what must not be lost is recorded in the Database's status before what depends on it.
//! 3. A plugin imports nothing: same bytes and same request, same plan and same fuel.
//! 4. A plugin writes only what its ClusterRole grants, only namespaced kinds, only into its database's namespace.
//! 5. A bad plugin changes nothing: what runs stays as it is, and status says why.
//! 6. Data is not deleted by surprise: volume claims are never removed, nothing is removed before all applies succeeded, and a
//!    plan that changed by itself and would disturb a workload is held until somebody accepts it.
//! 7. Nothing foreign is touched: an object of the right name and another owner is reported.
//! 8. One malformed object blinds nobody.
//! 9. Everything that could grow has a limit, in [`limits`].
//! 10. What was published stays readable: contract versions, resource versions.
//!
//! ## Rooms, in reading order
//!
//! `crd` and `wit` are the two languages spoken, with users and with plugins. `fault` sorts what can go wrong by who must act.
//! `observe`, `admit`, `contain`, `apply/decide` and `status` decide and do nothing else. `cache`, `catalog`, `apply`, `webhook`
//! and `controller` touch the world. `leader` says which of several replicas reconciles, and lets no other write; all of them
//! watch, load plugins and serve. `proto` is the language of gRPC clients, `view` what they may see, `api` who answers them;
//! `api` and `controller` meet in Kubernetes only. The host knows no storage: not one is named here.
//!
//! ## Absent on purpose
//!
//! Host imports for plugins, polling, finalizers, a database of our own, a requeue that nothing asks for.

pub mod cli;
pub mod controller;

pub mod crd;
pub mod wit;

pub mod pack;
pub mod sandbox;

pub mod catalog;

pub mod cache;
pub mod observe;

pub mod admit;
pub mod contain;

pub mod apply;

pub mod fault;
pub mod status;

pub mod leader;

pub mod api;
pub mod proto;
pub mod view;

pub mod webhook;

pub mod limits;
pub mod names;
pub mod telemetry;
