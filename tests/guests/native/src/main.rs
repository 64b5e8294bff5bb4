//! Plans as often as its argument sets, as machine code of this machine but with the allocator of a plugin, and prints the
//! nanoseconds that one plan took, then the manifests. Knows no sandbox.
#![allow(unsafe_code)] // memory for the allocator

use std::cell::UnsafeCell;
use std::hint::black_box;

use atomix_sdk::memory::{FreeLists, Heap};
use atomix_sdk::testing::{ObservedClass, Request};
use atomix_sdk::{Database, Partition, json};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static MEMORY: FreeLists<Buffer> = FreeLists::new(Buffer(UnsafeCell::new([0; HEAP_BYTES])));

/// As much as a plugin may have.
const HEAP_BYTES: usize = 128 << 20;

struct Buffer(UnsafeCell<[u8; HEAP_BYTES]>);

impl Heap for Buffer {
    fn start(&self) -> usize {
        self.0.get() as usize
    }

    fn grow_to(&self, end: usize) -> Option<usize> {
        let limit = self.start() + HEAP_BYTES;
        (end <= limit).then_some(limit)
    }
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let plan = |()| planner::plugin().plan(black_box(request())).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    (0..rounds / 10).for_each(|_| drop(black_box(plan(()))));
    let start = cpu_nanos();
    (0..rounds).for_each(|_| drop(black_box(plan(()))));
    println!("{}", (cpu_nanos() - start) / u64::from(rounds.max(1)));
    plan(()).objects.iter().for_each(|object| println!("{}", object.manifest));
}

/// Nanoseconds that this thread has run, so that others on the machine do not count.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The example of three clusters, made for each plan: a component gets its request anew each time too.
fn request() -> Request {
    let text = str::to_owned;
    Request {
        database: Database {
            namespace: text("default"),
            name: text("raft"),
            partitions: 3,
            partitions_per_cluster: 1,
            labels: Vec::new(),
            database_label: text("raft.default"),
        },
        class: ObservedClass {
            kind: text("RaftStorageClass"),
            version: text("v1beta1"),
            name: text("raft"),
            spec: json!({"image": "atomix/raft-replica:latest", "imagePullPolicy": "IfNotPresent", "replicas": 3})
                .to_string(),
        },
        partitions: (1..=3).map(|id| Partition { id, cluster: id, service_name: format!("raft-{id}") }).collect(),
        observed: Vec::new(),
        cluster_domain: text("cluster.local"),
        features: Vec::new(),
    }
}
