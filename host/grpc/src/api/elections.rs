//! Elections of primaries: each lives in `status.election` of its Partition and is changed only against the resourceVersion that
//! was read, so that two replicas never make two primaries of one term.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::{Stream, StreamExt};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tonic::Status;

use super::{Api, is_conflict, namespace, required, required_name, status_of};
use crate::proto::controller::{PartitionElectionRequest, PartitionElectionResponse, PrimaryTerm};
use crate::view::Elections;
use crate::view::elections::{advanced, entered, left};
use atomix_model::crd::Election;
use atomix_model::object::Key;
use atomix_model::object::Objects as _;
use atomix_model::{limits, names};

/// Candidates whose streams this replica holds.
#[derive(Default)]
pub(super) struct LocalCandidates(Mutex<HashMap<Key, PartitionCandidates>>);

/// The candidates of one Partition whose streams this replica holds.
#[derive(Default)]
struct PartitionCandidates {
    /// How many streams each candidate has.
    streams: HashMap<String, usize>,
    /// Held while the election is written, so that this replica makes one write at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// A stream's hold on its candidate: when the last is dropped, the candidate leaves.
struct CandidateStream {
    api: Arc<Api>,
    partition: Key,
    name: String,
}

impl Api {
    /// Enters an election. The stream begins with a term in which the candidate stands.
    pub(super) async fn enter_election(
        self: Arc<Self>,
        request: PartitionElectionRequest,
        from: Option<IpAddr>,
    ) -> Result<impl Stream<Item = Result<PartitionElectionResponse, Status>> + Send + use<>, Status> {
        let partition = self.partition(&request)?;
        let name = required_name(&request.member, "member")?.to_owned();
        self.policy.may_write(&partition.namespace)?;
        self.write_rates.count(from, Instant::now())?;
        let hold = self.clone().register_candidate(&partition, &name);
        self.update_election(&partition, |election| entered(election, &name, &self.replica)).await?;
        let terms = Elections::watch(&self.view.elections, &partition.namespace, &partition.name);
        let mut last: Option<PrimaryTerm> = None;
        let terms = terms.filter_map(move |election| {
            let _held = &hold; // as long as the stream
            let term = term(election);
            let news = last.as_ref() != Some(&term);
            last = Some(term.clone());
            std::future::ready(news.then_some(Ok(PartitionElectionResponse { term: Some(term) })))
        });
        let gone = Status::not_found(format!("partition {partition} is gone"));
        Ok(terms.chain(futures::stream::iter([Err(gone)])))
    }

    /// The object of the partition that is meant.
    fn partition(&self, request: &PartitionElectionRequest) -> Result<Key, Status> {
        let id = required(&request.partition_id, "partition_id")?;
        let (name, in_namespace) = match (&id.group, id.cluster.as_ref().and_then(|cluster| cluster.database_id.as_ref())) {
            (Some(group), _) => (&group.name, &group.namespace),
            (None, Some(database)) => (&database.name, &database.namespace),
            (None, None) => {
                return Err(Status::invalid_argument("partition_id names neither a group nor a cluster of a database"));
            }
        };
        let (namespace, name) = (namespace(in_namespace)?, required_name(name, "the group's name")?);
        let databases = self.view.databases.read();
        let object = databases.partition(namespace, name, id.partition);
        let object = object
            .ok_or_else(|| Status::not_found(format!("there is no partition {} of {namespace}/{name}", id.partition)))?;
        Ok(Key::new(namespace, object))
    }

    fn register_candidate(self: Arc<Self>, partition: &Key, name: &str) -> CandidateStream {
        let mut partitions = self.candidates.lock();
        *partitions.entry(partition.clone()).or_default().streams.entry(name.to_owned()).or_default() += 1;
        drop(partitions);
        CandidateStream { api: self, partition: partition.clone(), name: name.to_owned() }
    }

    /// Takes an election one step further, against whatever others do meanwhile.
    async fn update_election(&self, partition: &Key, step: impl Fn(&Election) -> Election) -> Result<(), Status> {
        let kind = &self.kinds.partition;
        let writing = self.candidates.write_lock(partition);
        let _writing = writing.lock().await;
        let objects = self.objects(kind, &partition.namespace);
        let missing = || Status::not_found(format!("there is no partition {partition}"));
        for _ in 0..limits::CONFLICT_TRIES {
            let live = self.caches.find(kind, partition).filter(|live| !live.terminating()).ok_or_else(missing)?;
            let stored = live.body.pointer("/status/election").cloned();
            let stored: Election = stored.and_then(|stored| serde_json::from_value(stored).ok()).unwrap_or_default();
            let floor = self.view.elections.read().floor(&partition.namespace, &partition.name);
            let Some(after) = advanced(&stored, live.version, floor, &step) else { return Ok(()) };
            if after.candidates.len() > limits::CANDIDATES_MAX && after.candidates.len() > stored.candidates.len() {
                return Err(Status::resource_exhausted(format!(
                    "partition {partition} has {} candidates, which is the limit",
                    limits::CANDIDATES_MAX
                )));
            }
            let patch = json!({
                "metadata": {"uid": live.uid, "resourceVersion": live.version.to_string()},
                "status": {"election": after},
            });
            let params = PatchParams { field_manager: Some(names::API_MANAGER.to_owned()), ..PatchParams::default() };
            let written = match objects.patch_status(&partition.name, &params, &Patch::Merge(patch)).await {
                Ok(written) => {
                    self.wrote(kind, &written);
                    return Ok(());
                }
                Err(error) if is_conflict(&error) => objects.get(&partition.name).await,
                Err(error) => Err(error),
            };
            let newer =
                written.map_err(|error| status_of(&format!("write the election of partition {partition}"), &error))?;
            self.wrote(kind, &newer);
        }
        Err(Status::aborted(format!("the election of partition {partition} changes too fast; try again")))
    }

    /// Takes candidates that `replica` held out of an election, but for those that have a stream here.
    pub(super) async fn remove_candidates(&self, partition: &Key, names: &[String], replica: &str) {
        for _ in 0..limits::CONFLICT_TRIES {
            let here = |name: &String| replica == self.replica && self.candidates.has_stream(partition, name);
            let gone = || names.iter().filter(|name| !here(name)).cloned().collect::<Vec<_>>();
            match self.update_election(partition, |election| left(election, &gone(), replica)).await {
                Ok(()) => break,
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(status) => {
                    tracing::debug!(%status, %partition, "a candidate that left could not be removed; trying again");
                    tokio::time::sleep(limits::RETRY_AFTER_MIN).await;
                }
            }
        }
        self.candidates.forget(partition);
    }

    /// Puts candidates back whose streams are here and that were removed.
    pub(super) fn reenter_candidates(self: &Arc<Self>, partition: &Key, election: &Election) {
        let missing: Vec<String> = self.candidates.missing_from(partition, election);
        if missing.is_empty() {
            return;
        }
        let (api, partition) = (self.clone(), partition.clone());
        tokio::spawn(async move {
            for name in missing {
                let step = |election: &Election| match api.candidates.has_stream(&partition, &name) {
                    true => entered(election, &name, &api.replica),
                    false => election.clone(),
                };
                if let Err(status) = api.update_election(&partition, step).await {
                    tracing::warn!(%status, %partition, name, "a candidate was removed and could not be put back");
                }
            }
        });
    }

    /// Candidates of this replica without a stream here.
    pub(super) fn candidates_without_stream(&self) -> Vec<(Key, Vec<String>)> {
        let own = self.view.elections.read().of_replica(&self.replica).into_iter();
        let own = own.map(|((namespace, partition), names)| (Key::new(namespace, partition), names));
        let without_stream = own.map(|(partition, mut names)| {
            names.retain(|name| !self.candidates.has_stream(&partition, name));
            (partition, names)
        });
        without_stream.filter(|(_, names)| !names.is_empty()).collect()
    }
}

fn term(election: Election) -> PrimaryTerm {
    let candidates = election.candidates.into_iter().map(|candidate| candidate.name).collect();
    PrimaryTerm { term: election.term, primary: election.primary, candidates }
}

impl LocalCandidates {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, PartitionCandidates>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write_lock(&self, partition: &Key) -> Arc<tokio::sync::Mutex<()>> {
        self.lock().entry(partition.clone()).or_default().writing.clone()
    }

    fn has_stream(&self, partition: &Key, name: &str) -> bool {
        self.lock().get(partition).is_some_and(|candidates| candidates.streams.contains_key(name))
    }

    /// Candidates with a stream here that do not stand in the election.
    fn missing_from(&self, partition: &Key, election: &Election) -> Vec<String> {
        let partitions = self.lock();
        let streams = partitions.get(partition).into_iter().flat_map(|candidates| candidates.streams.keys());
        streams.filter(|name| !election.candidates.iter().any(|it| it.name == **name)).cloned().collect()
    }

    fn forget(&self, partition: &Key) {
        let mut partitions = self.lock();
        if partitions
            .get(partition)
            .is_some_and(|candidates| candidates.streams.is_empty() && Arc::strong_count(&candidates.writing) == 1)
        {
            partitions.remove(partition);
        }
    }
}

impl Drop for CandidateStream {
    fn drop(&mut self) {
        let mut partitions = self.api.candidates.lock();
        let Some(candidates) = partitions.get_mut(&self.partition) else { return };
        let Some(streams) = candidates.streams.get_mut(&self.name) else { return };
        *streams -= 1;
        if *streams > 0 {
            return;
        }
        candidates.streams.remove(&self.name);
        if *self.api.stopping.borrow() {
            return; // left to the replica that its client goes to
        }
        drop(partitions);
        let (api, partition, name) = (self.api.clone(), self.partition.clone(), self.name.clone());
        tokio::spawn(async move { api.remove_candidates(&partition, &[name], &api.replica).await });
    }
}
