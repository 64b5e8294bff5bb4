//! Runs one call of a plugin: a fresh store, fuel, a memory cap, and errors that name the plugin. Knows no Kubernetes and no
//! clock; callers keep it off the async threads.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod answer_checks;
mod binary_checks;
mod descriptor_checks;
mod fault;
mod panic_message;
mod versions;

use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store, Trap};

use atomix_model::contract::{Descriptor, FieldError, Group, GroupClass, Plan, Refusal, Request};
use atomix_model::limits;

pub use fault::{PluginFault, Wrong};
use versions::{GroupRequest, Pre, Unread};

/// Where plugins run: one engine and one pool of instances for the whole process.
#[derive(Clone)]
pub struct Sandbox {
    engine: Engine,
    slots: Arc<Slots>,
}

/// A plugin that is loaded: cheap to clone, free of state, callable from any thread.
#[derive(Clone)]
pub struct Revision(Arc<Loaded>);

struct Loaded {
    descriptor: Descriptor,
    protocols: Vec<String>,
    digest: String,
    describe_fuel: u64,
    guest: Guest,
}

/// The code of a revision, by the version of the contract that it was built against.
struct Guest {
    sandbox: Sandbox,
    pre: Pre<Caps>,
}

/// An answer, and the fuel that it took: the same for the same bytes and the same request.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Metered<T> {
    pub answer: T,
    /// Fuel that the call used: about one unit for each instruction.
    pub fuel: u64,
}

impl Revision {
    /// Calls `plan`: which objects the database of the request needs, and its state. A refusal is the user's to correct, a
    /// fault the author's.
    pub fn plan(&self, request: &Request) -> Result<Result<Plan, Refusal>, PluginFault> {
        Ok(self.plan_metered(request)?.answer)
    }

    /// Like [`Revision::plan`], with the fuel that it took.
    pub fn plan_metered(&self, request: &Request) -> Result<Metered<Result<Plan, Refusal>>, PluginFault> {
        let Metered { answer, fuel } = self.plan_unread(request)?;
        let answer = answer.map(Unread::read).map_or_else(|refusal| Ok(Err(refusal)), |read| read.map(Ok));
        let answer = answer.map_err(|garbled| self.fault(Wrong::Promise(garbled)))?;
        answer_checks::check_answer(&answer, request).map_err(|why| self.fault(Wrong::Promise(why)))?;
        Ok(Metered { answer, fuel })
    }

    /// The manifests of a plan as the plugin wrote them, to the byte and unchecked: to compare revisions, hosts and machines with.
    pub fn plan_texts(&self, request: &Request) -> Result<Result<Vec<String>, Refusal>, PluginFault> {
        Ok(self.plan_unread(request)?.answer.map(Unread::texts))
    }

    fn plan_unread(&self, request: &Request) -> Result<Metered<Result<Unread, Refusal>>, PluginFault> {
        let fuel = limits::PLAN_FUEL
            + limits::PLAN_FUEL_PER_PARTITION * request.partitions.len() as u64
            + limits::PLAN_FUEL_PER_OBSERVED * request.observed.len() as u64;
        let run = self.0.guest.run(fuel, |pre, store| pre.plan(store, request));
        run.map_err(|wrong| self.fault(wrong.during("plan")))
    }

    /// Calls `validate`: whether a class's spec is valid beyond its schema.
    pub fn validate(&self, kind: &str, spec: &serde_json::Value) -> Result<Result<(), Vec<FieldError>>, PluginFault> {
        let spec = spec.to_string();
        let run = self.0.guest.run(limits::VALIDATE_FUEL, |pre, store| pre.validate(store, kind, &spec));
        let answer = run.map_err(|wrong| self.fault(wrong.during("validate")))?.answer;
        if let Err(errors) = &answer {
            answer_checks::check_field_errors(errors).map_err(|why| self.fault(Wrong::Promise(why)))?;
        }
        Ok(answer)
    }

    /// Calls `class-of`: the class that a group of the old gRPC API asks for, given the full name of a message, the message
    /// as protobuf encodes it, and the members of each partition. None if the plugin does not serve groups.
    pub fn class_of(
        &self,
        protocol: &str,
        value: &[u8],
        partition_size: u32,
    ) -> Result<Option<Result<GroupClass, Vec<FieldError>>>, PluginFault> {
        let request = GroupRequest { protocol, value, partition_size };
        let run = self.0.guest.run(limits::VALIDATE_FUEL, |pre, store| pre.class_of(store, &request));
        let answer = run.map_err(|wrong| self.fault(wrong.during("class-of")))?.answer;
        let answer = answer.map_err(|garbled| self.fault(Wrong::Promise(garbled)))?;
        let Some(answer) = answer else { return Ok(None) };
        let checked = match &answer {
            Ok(class) => answer_checks::check_group_class(class, &self.0.descriptor),
            Err(errors) => answer_checks::check_field_errors(errors),
        };
        checked.map_err(|why| self.fault(Wrong::Promise(why)))?;
        Ok(Some(answer))
    }

    /// Calls `group-of`: what a class's spec means as a group of the old gRPC API. None if the plugin does not serve groups,
    /// or has none for it.
    pub fn group_of(&self, kind: &str, spec: &serde_json::Value) -> Result<Option<Group>, PluginFault> {
        let spec = spec.to_string();
        let run = self.0.guest.run(limits::VALIDATE_FUEL, |pre, store| pre.group_of(store, kind, &spec));
        let group = run.map_err(|wrong| self.fault(wrong.during("group-of")))?.answer;
        if let Some(group) = &group {
            answer_checks::check_group(group, &self.0.protocols).map_err(|why| self.fault(Wrong::Promise(why)))?;
        }
        Ok(group)
    }

    /// Full names of the protobuf messages by which groups of the old gRPC API ask for the plugin's storage; empty if it serves none.
    pub fn protocols(&self) -> &[String] {
        &self.0.protocols
    }

    /// The plugin's description of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    /// SHA-256 of the plugin's bytes, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Version of the contract that the plugin was built against.
    pub fn contract(&self) -> &'static str {
        self.0.guest.pre.export()
    }

    /// Fuel that `describe` took.
    pub fn describe_fuel(&self) -> u64 {
        self.0.describe_fuel
    }

    fn fault(&self, what: Wrong) -> PluginFault {
        let Descriptor { name, version, .. } = &self.0.descriptor;
        PluginFault { plugin: name.clone(), version: Some(version.clone()), digest: self.0.digest.clone(), what }
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.0.descriptor.name, self.0.descriptor.version, self.0.digest)
    }
}

impl Sandbox {
    /// Sets up the engine and the pool. An error means that this machine cannot run plugins at all.
    pub fn new() -> wasmtime::Result<Self> {
        let calls = limits::CALLS_MAX as u32;
        let cores = calls * limits::PLUGIN_MODULES_MAX as u32; // core instances, memories and tables of all calls at a time
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(calls)
            .total_core_instances(cores)
            .total_memories(calls)
            .total_tables(calls * 2)
            .max_core_instances_per_component(limits::PLUGIN_MODULES_MAX as u32)
            .max_memories_per_component(1)
            .max_tables_per_component(2)
            .max_memory_size(limits::CALL_MEMORY_BYTES_MAX)
            .table_elements(limits::CALL_TABLE_ELEMENTS_MAX)
            .max_unused_warm_slots(calls)
            .linear_memory_keep_resident(limits::CALL_MEMORY_KEPT_BYTES)
            .pagemap_scan(Enabled::Auto) // Linux 6.7: only what a call wrote is made zero again
            .table_keep_resident(limits::CALL_TABLE_ELEMENTS_MAX);
        Self::of(config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
    }

    /// Sets up an engine without a pool: it reserves no memory ahead, which takes longer for each call. For a program that makes a few.
    pub fn on_demand() -> wasmtime::Result<Self> {
        let reserved = limits::CALL_MEMORY_BYTES_MAX as u64;
        Self::of(config().memory_reservation(reserved).memory_reservation_for_growth(0).parallel_compilation(false))
    }

    fn of(config: &Config) -> wasmtime::Result<Self> {
        Ok(Self { engine: Engine::new(config)?, slots: Arc::new(Slots::new(limits::CALLS_MAX)) })
    }

    /// Loads a plugin in steps, each under limits; nothing of it runs before its bytes, imports and version are found good.
    /// `hint` names it in errors until its descriptor was read, e.g. the ConfigMap's label.
    pub fn load(&self, hint: &str, bytes: &[u8]) -> Result<Revision, PluginFault> {
        self::check(hint, bytes)?;
        let digest = digest_of(bytes);
        let fault = |what| PluginFault { plugin: hint.to_owned(), version: None, digest: digest.clone(), what };
        let guest = self.compile(bytes).map_err(fault)?;
        guest.check_optional().map_err(fault)?;
        let run = guest.run(limits::DESCRIBE_FUEL, |pre, store| pre.describe(store));
        let Metered { answer, fuel: describe_fuel } = run.map_err(|wrong| fault(wrong.during("describe")))?;
        let descriptor = answer.map_err(|garbled| fault(Wrong::Promise(garbled)))?;
        descriptor_checks::check_descriptor(&descriptor).map_err(|why| fault(Wrong::Promise(why)))?;
        let run = guest.run(limits::DESCRIBE_FUEL, |pre, store| pre.protocols(store));
        let protocols = run.map_err(|wrong| fault(wrong.during("protocols")))?.answer;
        descriptor_checks::check_protocols(&protocols).map_err(|why| fault(Wrong::Promise(why)))?;
        Ok(Revision(Arc::new(Loaded { descriptor, protocols, digest, describe_fuel, guest })))
    }

    fn compile(&self, bytes: &[u8]) -> Result<Guest, Wrong> {
        let broken = |error: wasmtime::Error| Wrong::Bytes(format!("it does not compile: {error:#}"));
        let component = Component::new(&self.engine, bytes).map_err(broken)?;
        let pre = Linker::new(&self.engine).instantiate_pre(&component).map_err(broken)?; // an empty linker: nothing can be imported
        let pre = Pre::new(pre).map_err(|error| Wrong::Promise(format!("{error:#}")))?;
        Ok(Guest { sandbox: self.clone(), pre })
    }
}

impl Guest {
    /// Whether the optional interfaces that are exported have the contract's types.
    fn check_optional(&self) -> Result<(), Wrong> {
        let Metered { answer, .. } = self.run(limits::DESCRIBE_FUEL, |pre, store| Ok(pre.check_optional(store)))?;
        let odd = answer.err().filter(|(_, error)| error.downcast_ref::<Trap>().is_none()); // what traps here traps in `describe` too
        match odd {
            None => Ok(()),
            Some((export, error)) => Err(Wrong::Promise(format!("its export {export} cannot be used: {error:#}"))),
        }
    }

    /// Makes one call in a store of its own: whatever it leaves behind goes with the store.
    fn run<T>(
        &self,
        fuel: u64,
        call: impl FnOnce(&Pre<Caps>, &mut Store<Caps>) -> wasmtime::Result<T>,
    ) -> Result<Metered<T>, Wrong> {
        let _slot = self.sandbox.slots.take();
        let mut store = Store::new(&self.sandbox.engine, Caps);
        store.limiter(|caps| caps);
        store.set_hostcall_fuel(limits::PLAN_BYTES_MAX);
        store.set_fuel(fuel).map_err(|error| gave_up(fuel, &store, &error))?;
        let answer = call(&self.pre, &mut store).map_err(|error| gave_up(fuel, &store, &error))?;
        let left = store.get_fuel().map_err(|error| gave_up(fuel, &store, &error))?;
        Ok(Metered { answer, fuel: fuel - left })
    }
}

/// The engine settings that hold for every plugin.
fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false) // differs between machines
        .cranelift_nan_canonicalization(true) // so do the bits of a NaN
        .consume_fuel(true)
        .coredump_on_trap(true) // by which a guest's memory is found once it has trapped
        .max_wasm_stack(limits::CALL_STACK_BYTES_MAX);
    config
}

/// The engine's message about an answer that is over the bytes that were set for one: its error has no type to match.
const ANSWER_TOO_LARGE: &str = "fuel allocated for hostcalls";

/// What a trap or a limit that ended a call is reported as.
fn gave_up(fuel: u64, store: &Store<Caps>, error: &wasmtime::Error) -> Wrong {
    let how = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            format!("it used all of its {fuel} units of fuel: an endless loop, or far too much work")
        }
        Some(Trap::UnreachableCodeReached) => match panic_message::from_trap(error, store) {
            Some(words) => format!("it panicked: {words}"),
            None => "it trapped: unreachable code, as after a panic".to_owned(),
        },
        Some(trap) => format!("it trapped: {trap}"),
        None => match error.root_cause().to_string() {
            words if words.contains(ANSWER_TOO_LARGE) => {
                format!("its answer is larger than {} bytes, which is the limit", limits::PLAN_BYTES_MAX)
            }
            words => words,
        },
    };
    Wrong::GaveUp { during: "", how }
}

/// The caps on memory and tables, as errors of their own in place of the guest's own end.
struct Caps;

impl ResourceLimiter for Caps {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        match desired <= limits::CALL_MEMORY_BYTES_MAX {
            true => Ok(true),
            false => Err(wasmtime::format_err!(
                "it asked for {desired} bytes of memory; at most {} are given",
                limits::CALL_MEMORY_BYTES_MAX
            )),
        }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        match desired <= limits::CALL_TABLE_ELEMENTS_MAX {
            true => Ok(true),
            false => Err(wasmtime::format_err!(
                "it asked for a table of {desired} elements; at most {} are given",
                limits::CALL_TABLE_ELEMENTS_MAX
            )),
        }
    }
}

/// A counting semaphore as wide as the pool: a full pool makes a call wait, and is no error.
struct Slots {
    free: Mutex<usize>,
    given_back: Condvar, // enters the kernel only if a thread waits
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), given_back: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let mut free = self.free.lock();
        self.given_back.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.given_back.notify_one();
    }
}

/// Checks what can be checked of a plugin's bytes before anything of them is compiled or run: the first step of [`Sandbox::load`].
pub fn check(hint: &str, bytes: &[u8]) -> Result<(), PluginFault> {
    binary_checks::check(bytes).map_err(|what| blamed(hint, bytes, what))
}

/// A fault of bytes whose descriptor was not read yet, under the name `hint`.
pub fn blamed(hint: &str, bytes: &[u8], what: Wrong) -> PluginFault {
    PluginFault { plugin: hint.to_owned(), version: None, digest: digest_of(bytes), what }
}

/// SHA-256 of a plugin's bytes, in hexadecimal: what [`Revision::digest`] returns once they are loaded.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
