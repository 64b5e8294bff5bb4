//! Namespaces of their own on this machine: network, mounts, processes, host name. All in it ends with its first process, and
//! nothing of it is seen outside but files and, while it runs, cgroups. Knows no Kubernetes. Needs root on Linux.
//!
//! The first process in them is `atomix-cluster init`: it reaps processes that lost their parent, and carries connections
//! between this machine and their own network through a Unix socket, which crosses network namespaces where nothing else
//! does. They nest: what ends the outer ones ends the inner ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::guard::{Guarded, Spec, log_tail};
use crate::paths;
use crate::signal::{self, Signal};

/// The command of `atomix-cluster` that starts the first process of the namespaces.
pub const SUBCOMMAND: &str = "linux-namespaces";

/// How long the first process may take to answer on a busy machine.
const THERE_WITHIN: Duration = Duration::from_secs(60);
/// How long cgroups may take to become empty once their processes are killed.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
/// Longest path of a Unix socket on Linux: sun_path holds 108 bytes, the last of them zero.
const SOCKET_PATH_MAX: usize = 107;
/// The kinds of namespaces that are made, as `unshare` and `nsenter` call them.
const NAMESPACES: [&str; 5] = ["--net", "--mount", "--pid", "--uts", "--ipc"];

/// A set of namespaces. Dropping it ends all processes in them.
#[derive(Debug)]
pub struct LinuxNamespaces {
    first: i32,
    socket: PathBuf,
    process: Guarded,
}

impl LinuxNamespaces {
    /// Makes namespaces on this machine with its files in `dir`. The cgroup `cgroup` of every hierarchy is removed when they end,
    /// however that comes, with all that is in it.
    pub fn start(dir: &Path, cgroup: &str) -> Result<LinuxNamespaces> {
        let mut args: Vec<String> = vec![SUBCOMMAND.into(), "--cgroup".into(), cgroup.into(), "--".into()];
        args.extend(unshare(&socket(dir)?)?);
        LinuxNamespaces::spawn(dir, paths::cluster_program()?, args)
    }

    /// Makes namespaces within these, with its files in `dir`.
    pub fn nested(&self, dir: &Path) -> Result<LinuxNamespaces> {
        let (program, args) = self.enter(&unshare(&socket(dir)?)?);
        LinuxNamespaces::spawn(dir, program, args)
    }

    fn spawn(dir: &Path, program: PathBuf, args: Vec<String>) -> Result<LinuxNamespaces> {
        let (socket, log) = (socket(dir)?, dir.join("namespaces.log"));
        fs::remove_file(&socket).ok(); // of the same namespaces before they ended
        let grace = EMPTY_WITHIN + Duration::from_secs(5);
        let mut process =
            Guarded::spawn(&Spec { name: "namespaces".into(), program, args, env: Vec::new(), log: log.clone(), grace })?;
        let start = Instant::now();
        let first = loop {
            if let Some(first) = listener(&socket) {
                break first;
            }
            if process.ended().is_some() || start.elapsed() > THERE_WITHIN {
                bail!("{}", why_not(&log_tail(&log, 10)));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok(LinuxNamespaces { first, socket, process })
    }

    /// The process id of its first process, on this machine.
    pub fn first(&self) -> i32 {
        self.first
    }

    /// The socket through which connections go into its network.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What to run so that `command` runs in the namespaces: a program and its arguments.
    pub fn enter(&self, command: &[String]) -> (PathBuf, Vec<String>) {
        let mut args: Vec<String> = vec!["--target".into(), self.first.to_string()];
        args.extend(NAMESPACES.map(String::from));
        args.push("--".into());
        args.extend(command.iter().cloned());
        ("nsenter".into(), args)
    }

    /// What to run so that `command` runs in the network of the namespaces only, as a process of this machine that can be killed from here.
    pub fn enter_network(&self, command: &[String]) -> (PathBuf, Vec<String>) {
        let args = ["--target".to_owned(), self.first.to_string(), "--net".to_owned(), "--".to_owned()];
        ("nsenter".into(), [&args[..], command].concat())
    }

    /// Runs a command in the namespaces and returns what it printed; an exit code other than 0 is an error with both outputs.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let (program, args) = self.enter(&command);
        run(Command::new(program).args(args))
    }

    /// Runs `ip` in the network of the namespaces but among this machine's processes, so that process ids are this machine's.
    pub fn ip(&self, line: &str) -> Result<()> {
        let target = self.first.to_string();
        run(Command::new("nsenter").args(["--target", &target, "--net", "--", "ip"]).args(line.split(' '))).map(drop)
    }

    /// Ends all in it at once, as a power cut would.
    pub fn cut(&mut self) -> Result<()> {
        signal::send(self.first, Signal::Kill).context("could not end the namespaces")?;
        let start = Instant::now();
        while self.process.ended().is_none() {
            if start.elapsed() > THERE_WITHIN {
                bail!("the namespaces did not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether its first process runs.
    pub fn is_there(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Lets connections to 127.0.0.1:`port` of this machine go to `to`, e.g. `127.0.0.1:6443`, as seen in the namespaces.
    pub fn forward(&self, port: u16, to: &str, log: &Path) -> Result<Guarded> {
        let through = self.socket.display().to_string();
        let args = ["forward", "--port", &port.to_string(), "--through", &through, "--to", to].map(String::from).to_vec();
        let (name, program) = (format!("forward {port}"), paths::cluster_program()?);
        let spec = Spec { name, program, args, env: Vec::new(), log: log.to_owned(), grace: Duration::ZERO };
        let mut forward = Guarded::spawn(&spec)?;
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if forward.ended().is_some() || start.elapsed() > THERE_WITHIN {
                bail!("port {port} could not be forwarded:\n{}", log_tail(log, 5));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(forward)
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run {command:?}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            bail!("{command:?} ended with {}: {}", output.status, printed.trim())
        }
    }
}

fn socket(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    let path = dir.join("ns.sock");
    match path.as_os_str().len() {
        ..=SOCKET_PATH_MAX => Ok(path),
        long => bail!(
            "{} has {long} bytes, a socket's path may have {SOCKET_PATH_MAX}: use a checkout nearer to /",
            path.display()
        ),
    }
}

fn unshare(socket: &Path) -> Result<Vec<String>> {
    let mut words: Vec<String> = vec!["unshare".into()];
    words.extend(NAMESPACES.map(String::from));
    words.extend(["--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"].map(String::from));
    words.push(paths::cluster_program()?.display().to_string());
    words.extend(["init".to_owned(), "--socket".to_owned(), socket.display().to_string()]);
    Ok(words)
}

/// Which process listens on a Unix socket, by its id on this machine.
fn listener(socket: &Path) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    stream.set_nonblocking(true).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
    let _entered = runtime.enter();
    UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()
}

/// `atomix-cluster init`: the first process of namespaces.
pub async fn init(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("could not listen on {}", socket.display()))?;
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
    loop {
        tokio::select! {
            _ = ended.recv() => signal::reap(),
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(carry_in(stream));
                }
            }
        }
    }
}

// The first line is the address, the rest is carried.
async fn carry_in(stream: UnixStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut to = String::new();
    stream.read_line(&mut to).await?;
    let mut target = TcpStream::connect(to.trim()).await?;
    copy_bidirectional(&mut stream, &mut target).await?;
    Ok(())
}

/// `atomix-cluster forward`: carries connections of this machine into namespaces.
pub async fn forward(port: u16, through: &Path, to: &str) -> Result<()> {
    let listener =
        TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("could not listen on port {port}"))?;
    loop {
        let (mut stream, _) = listener.accept().await.context("could not take a connection")?;
        let (through, to) = (through.to_owned(), format!("{to}\n"));
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut inside = UnixStream::connect(through).await?;
            inside.write_all(to.as_bytes()).await?;
            copy_bidirectional(&mut stream, &mut inside).await
        });
    }
}

/// `atomix-cluster linux-namespaces`: runs `command` until it ends or a signal stops this process, then removes the cgroup
/// `cgroup`.
pub async fn supervise(cgroup: &str, command: &[String]) -> Result<()> {
    remove_cgroup(cgroup)?; // of namespaces whose supervisor was killed
    let own = std::env::current_exe().context("this program's own path")?;
    let mut child = tokio::process::Command::new(own);
    child.arg("guarded").arg(std::process::id().to_string()).arg("--").args(command);
    let mut child = child.kill_on_drop(true).spawn().context("could not start the namespaces")?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = child.wait() => drop(ended?),
        _ = terminate.recv() => child.kill().await.context("could not end the namespaces")?,
    }
    remove_cgroup(cgroup)
}

fn remove_cgroup(name: &str) -> Result<()> {
    let start = Instant::now();
    for hierarchy in cgroup_hierarchies()? {
        let top = hierarchy.join(name);
        while top.is_dir() {
            remove_empty(&top);
            if start.elapsed() > EMPTY_WITHIN {
                bail!(
                    "{LEFT} {}: processes of another cluster run in it, which was not ended: {}",
                    top.display(),
                    processes(&top)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Where the hierarchies of cgroups are mounted.
pub fn cgroup_hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("could not read /proc/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(fields.filter(|all| matches!(all.get(2), Some(&"cgroup" | &"cgroup2"))).map(|all| PathBuf::from(all[1])).collect())
}

/// How a complaint about a cgroup begins.
const LEFT: &str = "a cgroup is left,";

/// Why namespaces could not be made, given what was printed: their supervisor's complaint is another matter than rights that are missing.
fn why_not(printed: &str) -> String {
    if printed.contains(LEFT) {
        return format!("an earlier cluster was not ended: end its processes, then try again:\n{printed}");
    }
    format!("namespaces of their own could not be made (that takes root on Linux):\n{printed}")
}

/// Ids of the processes in a cgroup and those below it.
fn processes(dir: &Path) -> String {
    let mut all = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().replace('\n', " ");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.push_str(&processes(&entry.path()));
        }
    }
    all
}

// From the leaves up; what still holds a process stays.
fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    fs::remove_dir(dir).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_is_left_is_no_lack_of_rights() {
        let left = why_not(&format!("error: {LEFT} /sys/fs/cgroup/atomix-x: processes of another cluster run in it"));
        assert!(left.starts_with("an earlier cluster was not ended") && left.contains("/sys/fs/cgroup/atomix-x"), "{left}");
        assert!(why_not("unshare: Operation not permitted").contains("root"));
    }
}
