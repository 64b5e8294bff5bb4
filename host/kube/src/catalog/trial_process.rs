//! Loads bytes that are new in a process of their own first, under limits of memory, processor time and wall time: no bytes can stall or
//! end the controller by what compiling them costs. Narrow limits come first, and wide ones for what exceeds them: a plugin waits for others
//! no longer than these take within the narrow ones. Knows no ConfigMap.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use atomix_model::limits;
use atomix_sandbox::{Sandbox, Wrong};

/// A program that reads a plugin from standard input, loads it under limits as [`load_under_limits`] does, and exits with 0 if it can be
/// loaded, or with 65 and the reason on standard output. Its last arguments are the most bytes of memory and the most seconds of processor
/// time.
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

    /// Whether the bytes can be loaded within these limits. The process ends with the future.
    ///
    /// # Errors
    /// No process could be had for it: nobody's fault, and worth another try.
    pub async fn run(&self, bytes: &[u8], limits: &limits::Trial) -> io::Result<Tried> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args([limits.memory_bytes.to_string(), limits.cpu_secs.to_string()])
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
        match tokio::time::timeout(limits.time, all).await {
            Ok(((), said, status)) => judged(status?, &said, limits),
            Err(_) => Ok(Tried::Exceeds(format!("loading it was not done after {} seconds", limits.time.as_secs()))),
        }
    }
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// The bytes can be loaded.
    Good,
    /// They cannot, whatever the limits are.
    Refused(String),
    /// Loading them takes more than the limits, or ended the process.
    Exceeds(String),
}

impl Tried {
    /// The last word on the bytes.
    ///
    /// # Errors
    /// Why they are refused.
    pub fn verdict(self) -> Result<(), Wrong> {
        match self {
            Tried::Good => Ok(()),
            Tried::Refused(why) => Err(Wrong::Loading(why)),
            Tried::Exceeds(why) => Err(Wrong::Bytes(why)),
        }
    }
}

/// Whether the bytes can be loaded, from how the process ended.
fn judged(status: ExitStatus, said: &[u8], limits: &limits::Trial) -> io::Result<Tried> {
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    if status.success() {
        return Ok(Tried::Good);
    }
    if status.code() == Some(i32::from(REFUSED)) {
        return Ok(Tried::Refused(String::from_utf8_lossy(said).trim().to_owned()));
    }
    Ok(Tried::Exceeds(if signal(Signal::XCPU) {
        format!("loading it takes more than {} seconds of processor time", limits.cpu_secs)
    } else if signal(Signal::ABORT) {
        format!("loading it takes more than {} MiB of memory", limits.memory_bytes / (1024 * 1024))
    } else if status.code().is_some() || signal(Signal::KILL) {
        let why = "the process that tries to load it ended before it was done";
        return Err(io::Error::other(format!("{why} ({status}); a pod that is short of memory ends it first")));
    } else {
        format!("loading it ended the process that tried ({status})")
    }))
}

/// The trial itself, in the process that is for it: bounds itself, then loads what standard input brings. Answers what to exit with.
pub fn load_under_limits(
    input: impl io::Read,
    mut output: impl io::Write,
    (memory_bytes, cpu_secs): (u64, u64),
) -> io::Result<u8> {
    bound(memory_bytes, cpu_secs)?;
    let mut bytes = Vec::new();
    input.take(limits::PLUGIN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let sandbox = Sandbox::on_demand().map_err(io::Error::other)?;
    match sandbox.load("", &bytes) {
        Ok(_) => Ok(0),
        // It is the limit that refuses more, not the bytes: ended as when the process itself runs out of it.
        Err(fault) if fault.what.to_string().contains(&io::Error::from(Errno::NOMEM).to_string()) => std::process::abort(),
        Err(fault) => {
            write!(output, "{}", fault.what)?;
            Ok(REFUSED)
        }
    }
}

/// Bounds this process, lets all others go before it, and makes it the first to end where memory is short.
fn bound(memory_bytes: u64, cpu_secs: u64) -> io::Result<()> {
    let bound = |most: u64, end: u64| Rlimit { current: Some(most), maximum: Some(end) };
    setrlimit(Resource::As, bound(memory_bytes, memory_bytes))?;
    setrlimit(Resource::Cpu, bound(cpu_secs, cpu_secs + 1))?; // SIGXCPU, then SIGKILL
    setrlimit(Resource::Core, bound(0, 0))?;
    if cpu_secs > limits::TRIAL_FIRST.cpu_secs {
        let _ = rustix::process::nice(10);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000"); // elsewhere than on Linux there is none
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial by a shell, which ends as a process can.
    async fn ended(script: &'static str) -> Tried {
        Trial::new("sh".into(), vec!["-c", script]).run(b"bytes", &limits::TRIAL_LAST).await.expect("there is a shell")
    }

    #[tokio::test]
    async fn a_trial_that_ends_badly_says_how() {
        assert_eq!(ended("cat > /dev/null").await, Tried::Good);
        assert_eq!(ended("cat; exit 65").await, Tried::Refused("bytes".to_owned()));
        assert_eq!(ended("cat > /dev/null; echo $0 $1; exit 65").await, Tried::Refused("805306368 60".to_owned()));
        for (script, words) in [
            ("kill -XCPU $$", "seconds of processor time"),
            ("kill -ABRT $$", "MiB of memory"),
            ("kill -SEGV $$", "ended the process that tried"),
        ] {
            let said = ended(script).await;
            assert!(matches!(&said, Tried::Exceeds(why) if why.contains(words)), "{script}: {said:?}");
        }
    }

    #[tokio::test]
    async fn a_trial_that_could_not_be_made_is_no_fault_of_the_plugin() {
        assert!(Trial::new("/nowhere/atomix-controller".into(), Vec::new()).run(b"", &limits::TRIAL_FIRST).await.is_err());
        for script in ["exit 1", "kill -KILL $$"] {
            assert!(Trial::new("sh".into(), vec!["-c", script]).run(b"", &limits::TRIAL_FIRST).await.is_err(), "{script}");
        }
    }
}
