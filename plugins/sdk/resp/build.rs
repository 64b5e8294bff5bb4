//! Leaves out of the start script what only its readers need: a plugin is the smaller for it, and so is each ConfigMap.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=src/server.sh");
    let script = fs::read_to_string("src/server.sh").expect("the script lies beside this file");
    let is_code = |line: &&str| line.starts_with("#!") || !(line.is_empty() || line.starts_with('#'));
    let lines: Vec<&str> = script.lines().map(str::trim_start).filter(is_code).collect();
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("server.sh"), lines.join("\n") + "\n").expect("the folder is writable");
}
