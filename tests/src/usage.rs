//! What a process on this machine has used of memory and processors, as Linux reports it (proc(5)). Knows no program.

use anyhow::{Context, Result};

/// Memory and processor time of one process, at one moment.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Usage {
    pub resident_kib: f64,
    /// The most that has been resident since it started.
    pub resident_kib_peak: f64,
    /// In all of its threads, since it started.
    pub cpu_secs: f64,
}

impl Usage {
    /// Of the process with this id, now.
    pub fn of(pid: i32) -> Result<Usage> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("what a process uses is read from /proc/{pid}/{file}, so on Linux"))
        };
        let (status, stat) = (read("status")?, read("stat")?);
        let kib = |field: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("/proc names {field}"))?;
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is a number"))
        };
        Ok(Usage { resident_kib: kib("VmRSS:")?, resident_kib_peak: kib("VmHWM:")?, cpu_secs: cpu_secs(&stat)? })
    }
}

/// Fields 14 and 15 of `stat`.
fn cpu_secs(stat: &str) -> Result<f64> {
    const TICKS_A_SECOND: f64 = 100.0; // what Linux reports to programs, whatever it counts in
    let fields = stat.rsplit_once(')').context("stat names the program")?.1;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS_A_SECOND)
}
