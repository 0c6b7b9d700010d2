//! Gives the memory of large buffers back to the system as soon as they are freed.
//!
//! The allocator of glibc raises the size from which it maps a block by itself with each large block that is freed, up to
//! 32 MiB; smaller blocks stay with the process (<https://man7.org/linux/man-pages/man3/mallopt.3.html>, `M_MMAP_THRESHOLD`).
//! After 1,024 strangers with bodies of 1 MiB, 292 MiB stayed before the size was fixed (docs/benchmarks.md, "Memory"). The
//! size can be set by a variable at the start alone, so the program starts itself once more with it.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_large_buffers_back() {
    use std::os::unix::process::CommandExt as _;

    const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
    /// Bytes from which a block is mapped by itself. The buffer of a connection that a long body comes on has 32 KiB, and so
    /// goes back with the connection; for a small webhook it has 8 KiB, which are cheaper to keep. With 64 KiB here, 83 MiB
    /// stayed after the strangers had gone.
    const THRESHOLD: &str = "32768";

    #[expect(clippy::disallowed_methods, reason = "the C library's variable, no setting of ours")]
    let is_set = std::env::var_os(VARIABLE).is_some();
    if is_set {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only if the program cannot be started again; then it goes on and keeps more memory.
    let _ = again.args(arguments).env(VARIABLE, THRESHOLD).exec();
}

/// Does nothing: other allocators do not have this habit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_large_buffers_back() {}
