//! The start script of Valkey and Redis within the file system of their image, without a cluster: what is edited, refused and killed there
//! stands in `start.sh` and `loss.sh`.

use std::process::Command;

use harness::{images, paths};

#[test]
fn no_edit_and_no_kill_of_the_start_script_loses_data() {
    runs("start.sh");
}

#[test]
fn no_copy_is_overwritten_before_a_person_decided() {
    runs("loss.sh");
}

/// Runs a script of this folder beside the start script.
fn runs(test: &str) {
    let debian = images::debian("trixie", &["valkey-server", "redis-server"]).unwrap();
    let root = paths::state().join(format!("{test}-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let unpacked = Command::new("tar").arg("-xf").arg(&debian).arg("-C").arg(&root).status().unwrap();
    assert!(unpacked.success());
    let script = paths::root().join("plugins/sdk/resp/src/server.sh");
    std::fs::copy(script, root.join("server.sh")).unwrap();
    std::fs::copy(paths::root().join("tests/nodes").join(test), root.join("test.sh")).unwrap();
    // In namespaces of its own, whose end takes every process with it.
    let inside = "mount -t proc proc \"$0/proc\" && mount -t tmpfs tmpfs \"$0/dev\" && mknod -m 666 \"$0/dev/null\" c 1 3 \
                  && mknod -m 666 \"$0/dev/urandom\" c 1 9 && ip link set lo up && exec chroot \"$0\" sh /test.sh";
    let namespaces = ["--mount", "--pid", "--net", "--fork", "--kill-child"];
    let run = Command::new("unshare").args(namespaces).args(["sh", "-c", inside]).arg(&root).output().unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let stdout = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{stdout}{}", String::from_utf8_lossy(&run.stderr));
}
