//! The plugins of the checkout as they are built, loaded into a sandbox of this process. Knows no cluster.

use std::fs;
use std::sync::OnceLock;

use atomix_sandbox::{Revision, Sandbox};

use harness::dist;

/// The sandbox that all tests of a program share.
///
/// # Panics
/// This machine does not run plugins.
pub fn sandbox() -> Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new().expect("this machine runs plugins")).clone()
}

/// The bytes of the plugin `name` as it was built last.
///
/// # Panics
/// It does not build.
pub fn bytes(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| dist::build_unless_prebuilt().expect("the plugins build"));
    let wasm = dist::wasm(name);
    fs::read(&wasm).unwrap_or_else(|error| panic!("{} cannot be read: {error}", wasm.display()))
}

/// The plugin `name`, loaded anew.
///
/// # Panics
/// It cannot be loaded.
pub fn plugin(name: &str) -> Revision {
    sandbox().load(name, &bytes(name)).unwrap_or_else(|fault| panic!("{fault}"))
}
