//! Loads bytes that are new in a process of their own first, under limits of memory, processor time and wall time: no bytes can stall or
//! end the controller by what compiling them costs. Knows no ConfigMap.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use atomix_model::limits;
use atomix_sandbox::{Sandbox, Wrong};

/// A program that reads a plugin from standard input, loads it under the limits of [`load_under_limits`], and exits with 0 if it can be
/// loaded, or with 65 and the reason on standard output.
#[derive(Clone, Debug)]
pub struct Trial {
    program: PathBuf,
    arguments: Vec<&'static str>,
}

/// What a trial exits with when the bytes are refused; the reason is on standard output.
const REFUSED: u8 = 65; // EX_DATAERR of sysexits.h

impl Trial {
    /// A trial by `program` with these arguments.
    pub fn new(program: PathBuf, arguments: Vec<&'static str>) -> Self {
        Self { program, arguments }
    }

    /// Whether the bytes can be loaded within the limits. The process ends with the future.
    ///
    /// The outer error means that no process could be had for it: nobody's fault, and worth another try.
    pub async fn run(&self, bytes: &[u8]) -> io::Result<Result<(), Wrong>> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear() // it needs nothing of ours, and must not have our credentials
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(bytes).await; // a process that ends early says why by its status
            }
        };
        let hear = async {
            let mut said = Vec::new();
            if let Some(stdout) = stdout {
                let _ = stdout.take(limits::MESSAGE_CHARS_MAX as u64).read_to_end(&mut said).await;
            }
            said
        };
        let all = async { tokio::join!(feed, hear, child.wait()) };
        match tokio::time::timeout(limits::TRIAL_TIME_MAX, all).await {
            Ok(((), said, status)) => judged(status?, &said),
            Err(_) => {
                Ok(Err(Wrong::Bytes(format!("loading it was not done after {} seconds", limits::TRIAL_TIME_MAX.as_secs()))))
            }
        }
    }
}

/// Whether the bytes can be loaded, from how the process ended.
fn judged(status: ExitStatus, said: &[u8]) -> io::Result<Result<(), Wrong>> {
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    let refused = if status.success() {
        return Ok(Ok(()));
    } else if status.code() == Some(i32::from(REFUSED)) {
        Wrong::Loading(String::from_utf8_lossy(said).trim().to_owned())
    } else if signal(Signal::XCPU) {
        Wrong::Bytes(format!("loading it takes more than {} seconds of processor time", limits::TRIAL_CPU_SECS_MAX))
    } else if signal(Signal::ABORT) {
        Wrong::Bytes(format!("loading it takes more than {} MiB of memory", limits::TRIAL_MEMORY_BYTES_MAX / (1024 * 1024)))
    } else if status.code().is_some() || signal(Signal::KILL) {
        let why = "the process that tries to load it ended before it was done";
        return Err(io::Error::other(format!("{why} ({status}); a pod that is short of memory ends it first")));
    } else {
        Wrong::Bytes(format!("loading it ended the process that tried ({status})"))
    };
    Ok(Err(refused))
}

/// The trial itself, in the process that is for it: bounds itself, then loads what standard input brings. Answers what to exit with.
pub fn load_under_limits(input: impl io::Read, mut output: impl io::Write) -> io::Result<u8> {
    bound()?;
    let mut bytes = Vec::new();
    input.take(limits::PLUGIN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let sandbox = Sandbox::on_demand().map_err(io::Error::other)?;
    match sandbox.load("", &bytes) {
        Ok(_) => Ok(0),
        Err(fault) => {
            write!(output, "{}", fault.what)?;
            Ok(REFUSED)
        }
    }
}

/// Bounds this process, and makes it the first to go where memory is short.
fn bound() -> io::Result<()> {
    let bound = |most: u64, end: u64| Rlimit { current: Some(most), maximum: Some(end) };
    setrlimit(Resource::As, bound(limits::TRIAL_MEMORY_BYTES_MAX, limits::TRIAL_MEMORY_BYTES_MAX))?;
    setrlimit(Resource::Cpu, bound(limits::TRIAL_CPU_SECS_MAX, limits::TRIAL_CPU_SECS_MAX + 1))?; // SIGXCPU, then SIGKILL
    setrlimit(Resource::Core, bound(0, 0))?;
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000"); // elsewhere than on Linux there is none
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial by a shell, which ends as a process can.
    async fn ended(script: &'static str) -> Result<(), Wrong> {
        Trial::new("sh".into(), vec!["-c", script]).run(b"bytes").await.expect("there is a shell")
    }

    #[tokio::test]
    async fn a_trial_that_ends_badly_says_how() {
        assert_eq!(ended("cat > /dev/null").await, Ok(()));
        assert_eq!(ended("cat; exit 65").await, Err(Wrong::Loading("bytes".to_owned())));
        for (script, words) in [
            ("kill -XCPU $$", "seconds of processor time"),
            ("kill -ABRT $$", "MiB of memory"),
            ("kill -SEGV $$", "ended the process that tried"),
        ] {
            let said = ended(script).await.expect_err("it is refused").to_string();
            assert!(said.contains(words), "{script}: {said}");
        }
    }

    #[tokio::test]
    async fn a_trial_that_could_not_be_made_is_no_fault_of_the_plugin() {
        assert!(Trial::new("/nowhere/atomix-controller".into(), Vec::new()).run(b"").await.is_err());
        for script in ["exit 1", "kill -KILL $$"] {
            assert!(Trial::new("sh".into(), vec!["-c", script]).run(b"").await.is_err(), "{script}");
        }
    }
}
