//! The sandbox that a template and its runs live in, in layers. Each is used when the kernel gives it:
//!
//! | layer | keeps a policy from | without it |
//! |---|---|---|
//! | namespaces: mount, PID, IPC, UTS (through a user namespace when not root) | seeing files and processes that are not its own; outliving its run | Landlock guards the files; a run may start no process |
//! | a user and PID namespace per run | signalling other runs; leaving processes behind; more processes than its limit | a filter per run forbids signals to others and new processes |
//! | an own uid per template (when root) | touching what other policies own | the host's uid, without capabilities |
//! | Landlock | writing outside its temporary folder; abstract sockets and signals to the outside | the mount namespace alone |
//! | seccomp | system calls that no policy needs and attacks do | – |
//! | rlimits | memory, CPU, open files, file size without end | – |
//!
//! What a kernel gives is found once, by [`probe`], with the same code that later builds sandboxes. After that
//! a layer that fails is an error, never a silent step down.

mod filters;
mod landlock;
mod privileges;
mod root;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::filters::{apply as apply_filters, run_filter};
pub(crate) use self::landlock::{abi as landlock_abi, restrict as restrict_files};
pub(crate) use self::privileges::{clone_run_works, drop_privileges, enter_user_namespace, limit_resources};
pub(crate) use self::root::{build as build_root, slots, system_paths};

/// Where the policy's code, the worker and the temporary folders are inside the mount namespace.
pub(crate) const CODE: &str = "/policy";
/// The worker's file inside the mount namespace.
pub(crate) const WORKER: &str = "/worker.pyc";
/// The parent of the temporary folders inside the mount namespace.
pub(crate) const TMP: &str = "/tmp";

/// The first uid that templates of a root host run as; the slot is added. The range is one that systemd leaves
/// unused, so that no account and no container has it.
pub(crate) const FIRST_UID: u32 = 1_900_000_000;

/// Which layers to use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Layers {
    /// Mount, PID, IPC and UTS namespaces.
    pub(crate) namespaces: bool,
    /// A fresh `/proc` in them.
    pub(crate) proc: bool,
    /// They are reached through a user namespace, as the host isn't root.
    pub(crate) user_namespace: bool,
    /// Templates run as uids of their own.
    pub(crate) own_uid: bool,
    /// Each run has a user and PID namespace of its own.
    pub(crate) run_namespaces: bool,
}

/// What the launcher is told, in the first message on its control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) layers: Layers,
    /// Only say whether the sandbox can be built, then exit.
    pub(crate) probe: bool,
    /// The uid and gid to become, when [`Layers::own_uid`].
    pub(crate) uid: u32,
    /// Folders and files to see, read-only: where they are, and where they shall be.
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
    /// An empty folder to build the new root on; without namespaces the parent of the temporary folders.
    pub(crate) scratch: PathBuf,
    /// How many temporary folders.
    pub(crate) slots: usize,
    /// Size of each, in MiB.
    pub(crate) slot_mb: u64,
    pub(crate) network: bool,
    pub(crate) argv: Vec<String>,
}

/// What the launcher answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Launched {
    /// The template's process, in the host's PID namespace. Always the first answer.
    Pid(i32),
    /// A probe that got to the end; whether a run can have namespaces of its own.
    Probed { run_namespaces: bool },
    /// A step that failed, and why.
    Failed { step: String, error: String },
}

/// Which parts of the sandbox are in force on this machine.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct SandboxReport {
    /// Mount, PID, IPC and UTS namespaces around each policy: it sees only its own files and processes.
    pub namespaces: bool,
    /// They are reached through an unprivileged user namespace (the host isn't root).
    pub user_namespace: bool,
    /// A fresh `/proc` that shows only the policy's own processes.
    pub private_proc: bool,
    /// Each run has a user and PID namespace of its own, which end with it.
    pub run_namespaces: bool,
    /// Each policy runs as a uid of its own (the host is root).
    pub own_uid: bool,
    /// The kernel's Landlock version; 0 when it has none. 6 and later also scope signals and abstract sockets.
    pub landlock_abi: u32,
    /// System calls are filtered.
    pub seccomp: bool,
    /// What is missing and what it costs, for people; empty when all is in force.
    pub notes: Vec<String>,
}
