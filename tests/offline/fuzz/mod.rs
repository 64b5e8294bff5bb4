//! Parsers of untrusted bytes, with arbitrary input: none panics, and each stays within its bound of heap and processor time
//! for every input. First each file in `tests/corpus/<parser>/` is parsed, then random changes of it and of usual input.
//!
//! An input that is too much for a parser is made as small as it goes and written to `target/fuzz/`: in the corpus it is a regression
//! test. `ATOMIX_FUZZ_SEED` brings the inputs of a failure back; `make soak` goes on with other seeds until it is stopped.

mod class_specs;
mod component_changes;
mod components;
mod json_changes;
mod names;
mod texts;

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use harness::{paths, seed};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use rustix::time::{ClockId, clock_gettime};

/// What one input may cost. Heap is counted, to the byte; processor time is that of the thread, which is the same on a busy machine.
struct Bound {
    /// Heap at any moment, in bytes, whatever the input.
    heap: u64,
    /// And for each byte of the input.
    heap_per_byte: u64,
    cpu: Duration,
}

/// What reads bytes from outside.
struct Parser<'a> {
    /// Its folder in `tests/corpus/`.
    name: &'static str,
    /// Random inputs that it gets.
    cases: u32,
    bound: Bound,
    /// Reads an input. An error is a promise that the parser has broken.
    read: &'a dyn Fn(&[u8]) -> Result<(), String>,
}

/// Bytes that are short when they are printed.
#[derive(Clone)]
struct Input(Vec<u8>);

/// The most that any input cost so far.
#[derive(Default)]
struct Most {
    heap: u64,
    heap_input: usize,
    cpu: Duration,
    cpu_input: usize,
}

impl Parser<'_> {
    /// Runs the parser on the corpus and on inputs of this kind.
    fn takes(&self, inputs: impl Strategy<Value = Vec<u8>>) {
        let most = Mutex::new(Most::default());
        for path in corpus_files(self.name) {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            self.parse(&bytes, &most).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        }
        let (seed, cases) = (seed::seed(), self.cases.saturating_mul(seed::times()));
        let config = Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let parse = |Input(bytes): Input| self.parse(&bytes, &most).map_err(TestCaseError::fail);
        match TestRunner::new(config).run(&inputs.prop_map(Input), parse) {
            Ok(()) => {}
            Err(TestError::Fail(why, input)) => {
                let path = keep(self.name, &input.0);
                panic!("{}: ATOMIX_FUZZ_SEED={seed}: {why}\n{input:?}\nkept in {}", self.name, path.display());
            }
            Err(TestError::Abort(why)) => panic!("{}: ATOMIX_FUZZ_SEED={seed}: {why}", self.name),
        }
        let Most { heap, heap_input, cpu, cpu_input } = most.into_inner().expect("no one panicked");
        let name = self.name;
        println!("{name}: {cases} inputs, seed {seed}: {heap} bytes of heap for {heap_input}, {cpu:?} for {cpu_input}");
    }

    fn parse(&self, bytes: &[u8], most: &Mutex<Most>) -> Result<(), String> {
        let before = cpu();
        let mut outcome = Ok(Ok(()));
        let heap = allocation_counter::measure(|| outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(bytes))));
        let (heap, cpu) = (heap.bytes_max, cpu().saturating_sub(before));
        let mut most = most.lock().expect("no one panicked");
        if heap > most.heap {
            (most.heap, most.heap_input) = (heap, bytes.len());
        }
        if cpu > most.cpu {
            (most.cpu, most.cpu_input) = (cpu, bytes.len());
        }
        match outcome {
            Ok(read) => read?,
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                return Err(format!("it panicked: {}", message.unwrap_or("without a message")));
            }
        }
        let heap_max = self.bound.heap + self.bound.heap_per_byte * bytes.len() as u64;
        if heap > heap_max {
            return Err(format!("{heap} bytes of heap for {} of input; at most {heap_max} are expected", bytes.len()));
        }
        if cpu > self.bound.cpu {
            return Err(format!("{cpu:?} for {} bytes; at most {:?} are expected", bytes.len(), self.bound.cpu));
        }
        Ok(())
    }
}

/// Processor time of this thread.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it has not run backwards")
}

/// Files of a parser's corpus, sorted.
fn corpus_files(name: &str) -> Vec<PathBuf> {
    let folder = paths::root().join("tests/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// What is in a parser's corpus.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    corpus_files(name).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Writes an input to `target/fuzz/`, under a name that is its own.
fn keep(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = paths::root().join("target/fuzz").join(name);
    let path = folder.join(&atomix_sandbox::digest_of(bytes)[..12]);
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes));
    kept.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 400;
        let shown = String::from_utf8_lossy(&self.0[..self.0.len().min(SHOWN)]);
        write!(f, "{} bytes: {shown:?}", self.0.len())
    }
}

/// A change of bytes, at a place.
#[derive(Clone, Debug)]
enum Change {
    Byte(u8),
    Bit(u8),
    Number(u32),
    Remove(usize),
    Insert(Vec<u8>),
    Repeat(usize, usize),
    Copy(prop::sample::Index, usize),
    Cut,
}

/// Changes that are worth a try, whatever the bytes mean.
fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let numbers = prop::sample::select(vec![
        0,
        1,
        0x7f,
        0x80,
        0xff,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX - 7,
        u32::MAX,
    ]);
    let change = prop_oneof![
        4 => any::<u8>().prop_map(Change::Byte),
        4 => (0..8_u8).prop_map(Change::Bit),
        3 => prop_oneof![numbers, any::<u32>()].prop_map(Change::Number),
        2 => (1..64_usize).prop_map(Change::Remove),
        2 => prop::collection::vec(any::<u8>(), 1..16).prop_map(Change::Insert),
        1 => (1..256_usize, 2..200_usize).prop_map(|(bytes, times)| Change::Repeat(bytes, times)),
        1 => (any::<prop::sample::Index>(), 1..64_usize).prop_map(|(from, bytes)| Change::Copy(from, bytes)),
        1 => Just(Change::Cut),
    ];
    (any::<prop::sample::Index>(), change)
}

fn changed(bytes: &mut Vec<u8>, (at, change): &(prop::sample::Index, Change)) {
    let at = at.index(bytes.len() + 1);
    let end = |count: usize| (at + count).min(bytes.len());
    match change {
        Change::Byte(value) => bytes[at..].iter_mut().take(1).for_each(|byte| *byte = *value),
        Change::Bit(bit) => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << bit),
        Change::Number(value) => bytes[at..].iter_mut().zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new),
        Change::Remove(count) => drop(bytes.drain(at..end(*count))),
        Change::Insert(new) => drop(bytes.splice(at..at, new.iter().copied())),
        Change::Repeat(count, times) => {
            let part = bytes[at..end(*count)].repeat(*times);
            bytes.splice(at..at, part);
        }
        Change::Copy(from, count) => {
            let from = from.index(bytes.len() + 1);
            let part = bytes[from..(from + count).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Cut => bytes.truncate(at),
    }
}

/// Some of these bytes with some changes, or bytes of no meaning.
fn changed_bytes(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let some = (prop::sample::select(seeds), prop::collection::vec(change(), 1..6)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| changed(&mut bytes, change));
        bytes
    });
    prop_oneof![9 => some, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}
