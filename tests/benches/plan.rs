//! How much the sandbox costs: a plan of 15 manifests in a fresh instance, against the same planner as a program of this
//! machine, of the same profile and with the same allocator. Both end with the manifests' text, the same to the byte, or
//! nothing is measured. What comes on top before anything is written, reading that text and checking the answer, is printed
//! beside it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use atomix_model::contract::Request;
use atomix_sandbox::{Revision, Sandbox};
use harness::{dist, paths};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Plans of one measurement, and measurements of each kind, which alternate; the median counts.
const PLANS: u32 = 2000;
const MEASUREMENTS: usize = 9;
/// The target of the design.
const RATIO_MAX: f64 = 2.5;

fn main() -> Result<()> {
    dist::build_unless_prebuilt()?;
    let planner = native_planner()?;
    let sandbox = Sandbox::new().map_err(anyhow::Error::from)?;
    let bytes = std::fs::read(dist::wasm("raft")).context("the plugin is built")?;
    let start = Instant::now();
    let plugin = sandbox.load("raft", &bytes)?;
    let load_millis = start.elapsed().as_secs_f64() * 1e3;

    let given = paths::root().join("tests/golden/raft/three-clusters-fresh/given.yaml");
    let request: Request = serde_saphyr::from_str(&std::fs::read_to_string(given)?)?;
    let answer = same_answer(&plugin, &request, &planner)?;
    let (mut in_sandbox, mut native, mut checked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..MEASUREMENTS {
        native.push(measured_natively(&planner)?);
        in_sandbox.push(measured(|| Ok(plugin.plan_texts(std::hint::black_box(&request))?.is_ok()))?);
        checked.push(measured(|| Ok(plugin.plan(std::hint::black_box(&request))?.is_ok()))?);
    }
    let (in_sandbox, native, checked) = (median(in_sandbox), median(native), median(checked));
    let idle = measured(|| Ok(plugin.validate("RaftStorageClass", &json!({}))?.is_ok()))?;
    let fuel = plugin.plan_metered(&request)?.fuel;
    let ratio = in_sandbox / native;
    println!("plan of {} manifests      microseconds", answer.len());
    println!("  fresh instance           {:>8.1}", in_sandbox / 1e3);
    println!("    an instance alone      {:>8.1}", idle / 1e3);
    println!("  native                   {:>8.1}", native / 1e3);
    println!("  ratio                    {ratio:>8.2}   (at most {RATIO_MAX})");
    println!("  read and checked too     {:>8.1}", checked / 1e3);
    println!("    ratio                  {:>8.2}", checked / native);
    println!("fuel of the plan           {fuel:>8}");
    println!("load, compile, describe    {load_millis:>8.1}   milliseconds");
    let report = json!({
        "manifests": answer.len(), "sandboxNanos": in_sandbox, "instanceNanos": idle, "nativeNanos": native, "checkedNanos": checked, "ratio": ratio, "ratioChecked": checked / native, "ratioMax": RATIO_MAX,
        "fuel": fuel, "loadMillis": load_millis, "pluginBytes": bytes.len(),
    });
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("plan.json"), format!("{report:#}\n"))?;
    ensure!(ratio <= RATIO_MAX, "the sandbox costs {ratio:.2} times the native planner; at most {RATIO_MAX} is promised");
    Ok(())
}

/// Nanoseconds of one call.
fn measured<T>(mut call: impl FnMut() -> Result<T>) -> Result<f64> {
    for _ in 0..PLANS / 10 {
        std::hint::black_box(call()?);
    }
    let start = cpu_nanos();
    for _ in 0..PLANS {
        std::hint::black_box(call()?);
    }
    Ok((cpu_nanos() - start) / f64::from(PLANS))
}

fn measured_natively(planner: &PathBuf) -> Result<f64> {
    let output = Command::new(planner).arg(PLANS.to_string()).output().context("could not run the native planner")?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().next().context("the native planner printed nothing")?.parse().context("the native planner printed no time")
}

/// Compares the two answers, and returns their manifests.
fn same_answer(plugin: &Revision, request: &Request, planner: &PathBuf) -> Result<Vec<String>> {
    let ours = plugin.plan_texts(request)?.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let output = Command::new(planner).arg("1").output().context("could not run the native planner")?;
    let theirs: Vec<String> = String::from_utf8(output.stdout)?.lines().skip(1).map(str::to_owned).collect();
    match ours == theirs {
        true => Ok(ours),
        false => bail!("the component and the native planner answer differently"),
    }
}

/// Builds the planner as a program.
fn native_planner() -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--profile", "plugin", "--package", "atomix-native-planner"]).current_dir(paths::root());
    let status = cargo.status().context("could not run cargo")?;
    ensure!(status.success(), "cargo build of the native planner ended with {status}");
    Ok(paths::cargo_target().join("plugin/atomix-native-planner"))
}

/// Nanoseconds that this thread has run, so that others on the machine do not count.
fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
