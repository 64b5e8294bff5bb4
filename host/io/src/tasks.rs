//! Tasks that go on for as long as the process does. Knows nothing of what they do.

use tokio::task::JoinHandle;

/// What the process exits with when such a task has panicked: the same as when its main thread does.
const PANICKED: i32 = 101;

/// Starts a task without which the process cannot do its work, and which never ends by itself. If it panics, the process
/// ends and is started again: a cache that is no longer filled, or changes that are no longer received, would not be noticed
/// from outside. Plugins are called elsewhere: a panic there ends only that call.
pub fn vital(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _ends = EndsWithPanic(name);
        task.await;
    })
}

struct EndsWithPanic(&'static str);

impl Drop for EndsWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a task that the process cannot do without has panicked: it ends, to begin anew");
            std::process::exit(PANICKED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "ATOMIX_TEST_OF_A_PANIC";

    /// Runs this test again in a process of its own, where it panics.
    #[tokio::test]
    async fn a_vital_task_that_panics_ends_the_process_and_another_does_not() {
        if std::env::var_os(INSIDE).is_some() {
            let other = tokio::spawn(async { panic!("this one is nobody's concern") }).await;
            assert!(other.is_err());
            let aborted = vital("aborted", std::future::pending());
            aborted.abort();
            assert!(aborted.await.is_err_and(|ended| ended.is_cancelled()));
            let _ = vital("test", async { panic!("this one is") }).await;
            std::process::exit(0); // it did not end: what the outer test must not see
        }
        let mut inside = Command::new(std::env::current_exe().unwrap());
        inside.args([
            "--exact",
            "tasks::tests::a_vital_task_that_panics_ends_the_process_and_another_does_not",
            "--nocapture",
        ]);
        let ended = inside.env(INSIDE, "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(stderr.contains("this one is nobody's concern") && stderr.contains("this one is\n"), "{stderr}");
        assert_eq!(ended.status.code(), Some(PANICKED), "{stderr}");
    }
}
