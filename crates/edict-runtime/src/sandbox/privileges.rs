//! Who the template is: user namespace, uid, capabilities, resource limits.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, getgid, getuid, setgroups, setresgid, setresuid};

/// Enter a user namespace in which this process keeps its own uid and gid and may set up the others.
pub(crate) fn enter_user_namespace() -> std::io::Result<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    // To itself, not to 0: a root of any namespace would get its capabilities back with the next exec.
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Become `uid` (when given), and give up all capabilities for good.
pub(crate) fn drop_privileges(uid: Option<u32>) -> Result<(), Errno> {
    if let Some(uid) = uid {
        setgroups(&[])?;
        setresgid(Gid::from_raw(uid), Gid::from_raw(uid), Gid::from_raw(uid))?;
        setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
    } else if getuid().is_root() {
        const LOCKED_NOROOT: libc::c_ulong = 0b1111;
        for capability in 0..64 {
            // SAFETY: prctl with plain numbers; an unknown capability is refused, which is fine.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        // SAFETY: prctl with plain numbers.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, LOCKED_NOROOT, 0, 0, 0) })?;
    }
    clear_capabilities()?;
    nix::sys::prctl::set_no_new_privs()
}

fn clear_capabilities() -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: both arrays have the layout that version 3 of the call asks for.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Limits that are the same for the template and all of its runs. Memory is limited by the worker, which
/// knows what the interpreter itself takes; processes and CPU by each run.
pub(crate) fn limit_resources(file_mb: u64) -> Result<(), Errno> {
    const OPEN_FILES: u64 = 256;
    let all_processes = 4096;
    let limits = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_FSIZE, file_mb << 20),
        (Resource::RLIMIT_NPROC, all_processes),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ];
    for (what, limit) in limits {
        match setrlimit(what, limit, limit) {
            // The host's own limit may be lower, and only root may raise it.
            Err(Errno::EPERM) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether this process, as it is now, can make a child in namespaces of its own, as the worker will.
pub(crate) fn clone_run_works() -> bool {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: without a stack of its own and without CLONE_VM the child continues on a copy of this one, like
    // fork; this process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    pid > 0 && nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None).is_ok()
}
