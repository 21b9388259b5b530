//! System call filters. What no policy needs is denied, because each is a way out, a way to the kernel's
//! less trodden code, or memory that no limit counts.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Denied whatever the arguments.
const DENIED: &[i64] = &[
    // File systems and namespaces: a capability in a namespace of one's own must not be of any use.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_userfaultfd,
    libc::SYS_personality,
    // Keys and shared memory outlive a process and are not counted as its memory.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
];

/// Said not to exist, so that libraries fall back: `clone3` hides its flags from filters, io_uring its
/// operations; a memfd is memory outside the limit.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// Filter this process and its descendants, for ever. `setsid_too` denies leaving the session as well, for
/// hosts without PID namespaces: the session is then what its processes are found by.
pub(crate) fn apply(network: bool, setsid_too: bool) -> Result<(), String> {
    let mut rules: Rules = DENIED.iter().map(|call| (*call, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_kexec_file_load].map(|call| (call, vec![])));
    if setsid_too {
        rules.insert(libc::SYS_setsid, vec![]);
    }
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWCGROUP,
    ];
    let clone = namespaces.iter().map(|flag| rule(&[masked(0, *flag)?])).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, clone);
    // The order to die with the host must not be taken back.
    rules.insert(libc::SYS_prctl, vec![rule(&[equals(0, libc::PR_SET_PDEATHSIG as u64)?])?]);

    let mut families = vec![libc::AF_UNIX];
    if network {
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    let other_families =
        families.iter().map(|family| differs(0, *family as u64)).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_socket, vec![rule(&other_families)?]);

    load(&compile(rules, libc::EPERM)?)?;
    load(&compile(ABSENT.iter().map(|call| (*call, vec![])).collect(), libc::ENOSYS)?)?;
    if cfg!(target_arch = "x86_64") {
        load(&no_x32())?;
    }
    Ok(())
}

/// A filter that a child puts on itself, with its own pid filled in.
pub(crate) struct RunFilter {
    /// The program, as the kernel takes it.
    pub(crate) code: Vec<u8>,
    /// The four bytes that stand for the pid.
    pub(crate) pid: [u8; 4],
}

/// For hosts where a run has no namespaces: no new process, no signal to another one.
pub(crate) fn run_filter() -> Result<RunFilter, String> {
    const PID: u32 = 0x5eed_71d5;
    let mut rules = Rules::new();
    let other = |arg| rule(&[differs(arg, u64::from(PID))?]).map(|rule| vec![rule]);
    rules.insert(libc::SYS_kill, other(0)?);
    rules.insert(libc::SYS_tgkill, other(0)?);
    rules.insert(libc::SYS_rt_sigqueueinfo, other(0)?);
    rules.insert(libc::SYS_rt_tgsigqueueinfo, other(0)?);
    for call in [libc::SYS_tkill, libc::SYS_pidfd_send_signal, libc::SYS_setsid, libc::SYS_setpgid] {
        rules.insert(call, vec![]);
    }
    // A thread is fine, a process isn't.
    rules.insert(
        libc::SYS_clone,
        vec![rule(&[SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64),
            0,
        )
        .map_err(text)?])?],
    );
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, vec![])));
    let code = compile(rules, libc::EPERM)?.iter().flat_map(bytes).collect();
    Ok(RunFilter { code, pid: PID.to_ne_bytes() })
}

fn bytes(line: &sock_filter) -> [u8; 8] {
    let mut out = [0; 8];
    let parts = line.code.to_ne_bytes().into_iter().chain([line.jt, line.jf]).chain(line.k.to_ne_bytes());
    out.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    out
}

/// The x32 calls are the same calls under other numbers: a filter by number alone would miss them.
fn no_x32() -> BpfProgram {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const X32: u32 = 0x4000_0000;
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, String> {
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), ARCH)
        .and_then(TryInto::try_into)
        .map_err(text)
}

fn load(program: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter(program).map_err(text)
}

fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions.to_vec()).map_err(text)
}

fn masked(arg: u8, flag: i32) -> Result<SeccompCondition, String> {
    let flag = flag as u64;
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag).map_err(text)
}

fn equals(arg: u8, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).map_err(text)
}

fn differs(arg: u8, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
