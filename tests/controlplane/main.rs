//! Tests on a control plane: sentences about states, one file a subject. Nodes and pods are played.

#![allow(clippy::unwrap_used)]

mod admission_table;
mod admission_webhook;
mod adoption;
mod any_grpc_request;
mod classes;
mod controlplane;
mod conversion;
mod creation_order;
mod definitions;
mod diff;
mod drift;
mod dump;
mod edits;
mod example;
mod field_names;
mod foreign_objects;
mod gitops_labels;
mod group_status;
mod grpc_api;
mod grpc_descriptors;
mod grpc_tls;
mod hostile_plugins;
mod http2_frames;
mod inputs;
mod interference;
mod kstatus;
mod leader_election;
mod loosened_definition;
mod member_failures;
mod member_loss;
mod packaging;
mod peer_groups;
mod perturbed;
mod plugins;
mod revisions;
mod rollouts;
mod scale;
mod service_account;
mod steady_state;
mod third_party_clients;
mod untrusted_clients;
mod whole_edits;
