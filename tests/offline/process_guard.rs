//! Nothing that the harness starts outlives it.

use std::process::{Command, Stdio};
use std::time::Duration;

use harness::guard::{Guarded, Spec, gone_within};
use harness::paths;
use harness::signal::{self, Signal};

const SOON: Duration = Duration::from_secs(10);

fn sleeper(name: &str, script: &str) -> Spec {
    let dir = paths::state().join("tests/guard");
    std::fs::create_dir_all(&dir).unwrap();
    let log = dir.join(format!("{name}.log"));
    std::fs::write(&log, "").unwrap(); // without the output of an earlier run
    Spec {
        name: name.into(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![],
        log,
        grace: Duration::from_millis(300),
    }
}

#[test]
fn a_dropped_child_is_gone() {
    let child = Guarded::spawn(&sleeper("dropped", "exec sleep 600")).unwrap();
    let pid = child.pid();
    assert!(!gone_within(pid, Duration::from_millis(50)), "it runs");
    drop(child);
    assert!(gone_within(pid, SOON));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut child =
        Guarded::spawn(&sleeper("stubborn", "trap '' TERM; echo ready >&2; while :; do sleep 0.1; done")).unwrap();
    while !child.log_tail(10).contains("ready") {
        std::thread::yield_now();
    }
    let status = child.stop().unwrap();
    assert_eq!(status.code(), Some(128 + 9), "killed");
}

#[test]
fn a_child_is_asked_to_stop_before_it_is_killed() {
    let mut child =
        Guarded::spawn(&sleeper("polite", "trap 'exit 7' TERM; echo ready >&2; while :; do sleep 0.01; done")).unwrap();
    while !child.log_tail(10).contains("ready") {
        std::thread::yield_now();
    }
    assert_eq!(child.stop().unwrap().code(), Some(7));
}

#[test]
fn killing_the_parent_leaves_no_child() {
    // A guard whose pipe is held by a third process, which is killed without a chance to clean up.
    let guard = paths::cluster_program().unwrap();
    let script = format!("sleep 600 | {} guard -- sleep 600 & wait", guard.display());
    let mut parent = Command::new("/bin/sh").arg("-c").arg(script).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.stdout.as_mut().unwrap()), &mut line).unwrap();
    let child: i32 = line.trim().parse().unwrap();
    let holder = children_of(parent.id() as i32).into_iter().find(|pid| command_of(*pid).starts_with("sleep")).unwrap();
    kill(holder);
    let gone = gone_within(child, SOON);
    if !gone {
        kill(child); // or the test would never end
    }
    parent.wait().unwrap();
    assert!(gone, "the guarded process outlived the one that started it");
}

#[test]
fn killing_the_guard_leaves_no_child() {
    let child = Guarded::spawn(&sleeper("orphan", "exec sleep 600")).unwrap();
    let pid = child.pid();
    kill(parent_of(pid));
    assert!(gone_within(pid, SOON));
}

fn kill(pid: i32) {
    signal::send(pid, Signal::Kill).unwrap();
}

fn stat(pid: i32) -> Option<(i32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((rest.split_whitespace().nth(1)?.parse().ok()?, name.to_owned()))
}

fn parent_of(pid: i32) -> i32 {
    stat(pid).unwrap().0
}

fn command_of(pid: i32) -> String {
    stat(pid).map(|(_, name)| name).unwrap_or_default()
}

fn children_of(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| stat(*pid).is_some_and(|(ppid, _)| ppid == parent)).collect()
}
