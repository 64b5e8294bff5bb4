//! How much the sandbox costs: a plan of 15 manifests in a fresh instance, against the same planner as a program of this machine, of
//! the same profile and with the same allocator. The answers are the same to the byte, or nothing is measured.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use atomix_controller::sandbox::{Revision, Sandbox};
use atomix_controller::wit::Request;
use harness::{dist, paths};
use serde_json::{Value, json};

/// Plans of one measurement, and measurements of each kind, which alternate; the median counts.
const PLANS: u32 = 2000;
const MEASUREMENTS: usize = 9;
/// What design promises.
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
    let manifests = same_answer(&plugin, &request, &planner)?;
    let (mut in_sandbox, mut native) = (Vec::new(), Vec::new());
    for _ in 0..MEASUREMENTS {
        native.push(measured_natively(&planner)?);
        in_sandbox.push(measured(&plugin, &request)?);
    }
    let (in_sandbox, native) = (median(in_sandbox), median(native));
    let fuel = plugin.plan_metered(&request)?.fuel;
    let ratio = in_sandbox / native;
    println!("plan of {manifests} manifests      microseconds");
    println!("  fresh instance           {:>8.1}", in_sandbox / 1e3);
    println!("  native                   {:>8.1}", native / 1e3);
    println!("  ratio                    {ratio:>8.2}   (at most {RATIO_MAX})");
    println!("fuel of the plan           {fuel:>8}");
    println!("load, compile, describe    {load_millis:>8.1}   milliseconds");
    let report = json!({
        "manifests": manifests, "sandboxNanos": in_sandbox, "nativeNanos": native, "ratio": ratio, "ratioMax": RATIO_MAX,
        "fuel": fuel, "loadMillis": load_millis, "pluginBytes": bytes.len(),
    });
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("plan.json"), format!("{report:#}\n"))?;
    ensure!(ratio <= RATIO_MAX, "the sandbox costs {ratio:.2} times the native planner; at most {RATIO_MAX} is promised");
    Ok(())
}

/// Nanoseconds of one plan.
fn measured(plugin: &Revision, request: &Request) -> Result<f64> {
    for _ in 0..PLANS / 10 {
        plugin.plan(request)?.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    }
    let start = Instant::now();
    for _ in 0..PLANS {
        std::hint::black_box(plugin.plan(std::hint::black_box(request))?.is_ok());
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(PLANS))
}

fn measured_natively(planner: &PathBuf) -> Result<f64> {
    let output = Command::new(planner).arg(PLANS.to_string()).output().context("could not run the native planner")?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().next().context("the native planner printed nothing")?.parse().context("the native planner printed no time")
}

/// Holds the two answers together; says how many manifests they have.
fn same_answer(plugin: &Revision, request: &Request, planner: &PathBuf) -> Result<usize> {
    let plan = plugin.plan(request)?.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let ours: Vec<String> = plan.objects.iter().map(|object: &_| Value::to_string(&object.manifest)).collect();
    let output = Command::new(planner).arg("1").output().context("could not run the native planner")?;
    let theirs: Vec<String> = String::from_utf8(output.stdout)?.lines().skip(1).map(str::to_owned).collect();
    match ours == theirs {
        true => Ok(ours.len()),
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

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
