//! Children that never outlive this program, however it ends. Knows no Kubernetes.
//!
//! Each child runs under a second process, `atomix-cluster guard`, that holds a pipe to this program. When the pipe ends (this
//! program returned, panicked or was killed) the guard stops the child; should the guard itself be killed, the kernel kills the
//! child (on Linux).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::paths;
use crate::signal::{self, Signal};
use anyhow::{Context, Result, bail};

/// How to run a child.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Spec {
    /// What to call it in messages and in the name of its log.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// The whole environment: nothing is inherited but PATH.
    pub env: Vec<(String, String)>,
    /// File that gets its output, appended.
    pub log: PathBuf,
    /// How long it may take to stop after SIGTERM before it is killed; zero kills at once.
    pub grace: Duration,
}

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub struct Guarded {
    name: String,
    log: PathBuf,
    pid: i32,
    guard: Child,
    orders: Option<ChildStdin>,
}

impl Guarded {
    /// Starts the child under its guard.
    pub fn spawn(spec: &Spec) -> Result<Guarded> {
        let open = || File::options().create(true).append(true).open(&spec.log);
        let log = open().with_context(|| format!("could not open {}", spec.log.display()))?;
        let mut command = Command::new(paths::cluster_program()?);
        command
            .arg("guard")
            .arg("--grace-ms")
            .arg(spec.grace.as_millis().to_string())
            .arg("--")
            .arg(&spec.program)
            .args(&spec.args);
        command.env_clear().envs(spec.env.iter().map(|(key, value)| (key, value)));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        command.process_group(0); // Ctrl-C is for this program alone, which then stops its children in order
        let mut guard = command.spawn().with_context(|| format!("could not start {}", spec.name))?;
        let orders = guard.stdin.take();
        let mut first = String::new();
        let stdout = guard.stdout.take().context("the guard's output is a pipe")?;
        BufReader::new(stdout)
            .read_line(&mut first)
            .with_context(|| format!("could not read from the guard of {}", spec.name))?;
        let Ok(pid) = first.trim().parse() else {
            bail!("could not start {}: {}", spec.name, log_tail(&spec.log, 5));
        };
        Ok(Guarded { name: spec.name.clone(), log: spec.log.clone(), pid, guard, orders })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id of the child itself, not of its guard.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The last lines that the child wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log, lines)
    }

    /// How the child ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.guard.try_wait().ok().flatten()
    }

    /// Asks the child to stop (SIGTERM), kills it if it takes too long, and returns when it is gone.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        drop(self.orders.take()); // the guard stops the child when the pipe ends
        self.guard.wait().with_context(|| format!("could not wait for {}", self.name))
    }

    /// Kills the child (SIGKILL) and returns when it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(orders) = &mut self.orders {
            // A guard that ended already reads nothing, and has no child any more.
            let _ = orders.write_all(b"kill\n");
        }
        self.guard.wait().with_context(|| format!("could not wait for {}", self.name))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.stop(); // there is no caller to return it to
    }
}

/// The last `lines` lines of a log, or why there are none.
pub fn log_tail(log: &Path, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", log.display()),
    }
}

/// The guard itself: runs `command` until it ends or standard input does. Returns the exit code to end with.
pub fn guard(command: &[String], grace: Duration) -> Result<u8> {
    let own = std::env::current_exe().context("this program's own path")?;
    // The child has the kernel kill it with its parent, then becomes the command. The kernel means the thread that started
    // it: this one, which lives as long as the guard.
    let mut child = Command::new(own)
        .arg("guarded")
        .arg(std::process::id().to_string())
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn()
        .with_context(|| format!("could not start {}", command.join(" ")))?;
    let pid = i32::try_from(child.id()).context("a process id fits")?;
    println!("{}", child.id());
    std::io::stdout().flush().context("could not print the process id")?;

    let (events_in, events) = mpsc::channel();
    let orders = events_in.clone();
    std::thread::spawn(move || {
        let order = match std::io::stdin().lock().lines().next() {
            Some(Ok(line)) if line == "kill" => Event::Kill,
            _ => Event::Stop,
        };
        let _ = orders.send(order);
    });
    std::thread::spawn(move || {
        let status = child.wait();
        let _ = events_in.send(Event::Ended(status.map(code).unwrap_or(1)));
    });

    let mut last = events.recv().context("both threads are gone")?;
    if matches!(last, Event::Stop) && !grace.is_zero() {
        let _ = signal::send(pid, Signal::Terminate); // it may have ended meanwhile
        last = events.recv_timeout(grace).unwrap_or(Event::Kill);
    }
    if let Event::Ended(code) = last {
        return Ok(code);
    }
    let _ = signal::send(pid, Signal::Kill);
    loop {
        if let Event::Ended(code) = events.recv().context("both threads are gone")? {
            return Ok(code);
        }
    }
}

enum Event {
    Stop,
    Kill,
    Ended(u8),
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// The child's first step: ties its life to the guard's (`parent`) and becomes `command`. Returns only if that failed.
pub fn become_guarded(parent: u32, command: &[String]) -> anyhow::Error {
    if let Err(error) = signal::die_with_parent() {
        return anyhow::Error::new(error).context("could not tie this process to its guard");
    }
    if std::os::unix::process::parent_id() != parent {
        return anyhow::anyhow!("the guard is gone already");
    }
    let Some((program, args)) = command.split_first() else {
        return anyhow::anyhow!("no command given");
    };
    let error = Command::new(program).args(args).exec();
    anyhow::Error::new(error).context(format!("could not run {program}"))
}

/// Waits for the process `pid` to be gone, at most `limit`.
pub fn gone_within(pid: i32, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if !signal::is_there(pid) || is_zombie(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn is_zombie(pid: i32) -> bool {
    let mut stat = String::new();
    let path = format!("/proc/{pid}/stat");
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut stat));
    read.is_ok() && stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
