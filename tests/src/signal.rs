//! Signals between processes: the few calls that Rust's own library does not have. Knows nothing of what runs.

use std::io;

/// A signal to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks a process to stop.
    Terminate,
    /// Ends it.
    Kill,
    /// Halts it where it stands.
    Halt,
    /// Lets it go on after that.
    Resume,
}

/// Sends a signal to a process.
pub fn send(pid: i32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Halt => libc::SIGSTOP,
        Signal::Resume => libc::SIGCONT,
    };
    kill(pid, number)
}

/// Whether there is such a process; one that ended and was not waited for counts.
pub fn is_there(pid: i32) -> bool {
    kill(pid, 0).is_ok()
}

/// Has the kernel kill this process when the thread that started it ends (on Linux; elsewhere nothing does). It holds across exec.
pub fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: PR_SET_PDEATHSIG takes one number and touches no memory of this process.
        #[allow(unsafe_code)]
        let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        check(done)?;
    }
    Ok(())
}

/// Reaps every child that ended: the first process of a pid namespace inherits children that it never started.
pub fn reap() {
    // SAFETY: no status is asked for, so no memory is written.
    #[allow(unsafe_code)]
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "zero and less mean groups of processes"));
    }
    // SAFETY: two numbers, no memory.
    #[allow(unsafe_code)]
    let done = unsafe { libc::kill(pid, signal) };
    check(done)
}

fn check(done: i32) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
