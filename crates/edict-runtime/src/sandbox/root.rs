//! The file system that a policy sees: what Python needs, its code, temporary folders, and nothing of the host.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::{Spec, TMP};

/// Small files of /etc that name resolution, time zones and MIME types need.
const ETC_FILES: &[&str] = &[
    "resolv.conf",
    "hosts",
    "host.conf",
    "gai.conf",
    "nsswitch.conf",
    "services",
    "protocols",
    "mime.types",
    "localtime",
    "timezone",
    "ld.so.cache",
    "os-release",
];
/// Folders of /etc with certificates, and what leads to libraries.
const ETC_FOLDERS: &[&str] = &["/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives"];
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store"];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
const NO_SUID_NO_DEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// A step's name, for the error.
type Step = (&'static str, io::Error);

/// Build the new root on `spec.scratch` and move into it. Needs a mount and a PID namespace, and to be the first
/// process of the latter.
pub(crate) fn build(spec: &Spec, owner: u32) -> Result<(), Step> {
    let root = spec.scratch.as_path();
    let none = None::<&str>;
    // Nothing that is mounted here may show up outside.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(step("private mounts"))?;
    tmpfs(root, "mode=0755,size=4m").map_err(step("tmpfs"))?;
    for path in SYSTEM {
        share_system(root, Path::new(path)).map_err(step("system folders"))?;
    }
    etc(root, owner).map_err(step("/etc"))?;
    devices(root).map_err(step("/dev"))?;
    for (from, to) in &spec.binds {
        bind(from, &inside(root, to), true).map_err(step("binding a folder"))?;
    }
    temporary_folders(root, spec, owner).map_err(step("temporary folders"))?;
    let proc = inside(root, Path::new("/proc"));
    folder(&proc).map_err(step("/proc"))?;
    if spec.layers.proc {
        let flags = NO_SUID_NO_DEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        mount(Some("proc"), &proc, Some("proc"), flags, none).map_err(step("/proc"))?;
    }
    read_only(root, false).map_err(step("read-only root"))?;
    chdir(root).and_then(|()| pivot_root(".", ".")).map_err(step("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("leaving the old root"))?;
    chdir("/").map_err(step("chdir"))?;
    nix::unistd::sethostname("policy").map_err(step("host name"))
}

/// What of the system a policy may read where it cannot be given a root of its own.
pub(crate) fn system_paths() -> Vec<PathBuf> {
    let files = ETC_FILES.iter().map(|name| Path::new("/etc").join(name));
    let folders = SYSTEM.iter().chain(ETC_FOLDERS).chain(&["/proc", "/etc/passwd"]).map(PathBuf::from);
    files.chain(folders).collect()
}

/// The paths of the temporary folders inside.
pub(crate) fn slots(parent: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|slot| parent.join(slot.to_string())).collect()
}

/// One tmpfs per run that can go on at the same time: what one writes takes no room from another, needs no disk,
/// and ends with the namespace at the latest.
fn temporary_folders(root: &Path, spec: &Spec, owner: u32) -> io::Result<()> {
    let parent = inside(root, Path::new(TMP));
    folder(&parent)?;
    let options = format!(
        "mode=0700,uid={owner},gid={},size={}m,nr_inodes=4096",
        gid(spec, owner),
        spec.slot_mb.max(1)
    );
    for slot in slots(&parent, spec.slots) {
        fs::create_dir(&slot)?;
        tmpfs(&slot, &options)?;
    }
    Ok(())
}

fn gid(spec: &Spec, owner: u32) -> u32 {
    if spec.layers.own_uid { owner } else { nix::unistd::getgid().as_raw() }
}

fn share_system(root: &Path, path: &Path) -> io::Result<()> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    let to = inside(root, path);
    if found.is_symlink() { symlink(fs::read_link(path)?, to) } else { bind(path, &to, true) }
}

fn etc(root: &Path, owner: u32) -> io::Result<()> {
    let etc = inside(root, Path::new("/etc"));
    folder(&etc)?;
    for name in ETC_FILES {
        if let Ok(content) = fs::read(Path::new("/etc").join(name)) {
            fs::write(etc.join(name), content)?;
        }
    }
    // Not the host's: its accounts are none of a policy's business.
    let mut passwd = fs::File::create(etc.join("passwd"))?;
    writeln!(passwd, "policy:x:{owner}:{owner}::{TMP}:/bin/false")?;
    for path in ETC_FOLDERS.iter().map(Path::new).filter(|path| path.is_dir()) {
        bind(path, &inside(root, path), true)?;
    }
    Ok(())
}

fn devices(root: &Path) -> io::Result<()> {
    let dev = inside(root, Path::new("/dev"));
    folder(&dev)?;
    for name in DEVICES {
        bind(&Path::new("/dev").join(name), &dev.join(name), false)?;
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{target}"), dev.join(name))?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path, no_devices: bool) -> io::Result<()> {
    if from.is_dir() {
        folder(to)?;
    } else {
        if let Some(parent) = to.parent() {
            folder(parent)?;
        }
        if !to.exists() {
            fs::File::create(to)?;
        }
    }
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    if no_devices { read_only(to, true) } else { Ok(()) }
}

/// Make what is mounted at `path` read-only, with all that is mounted below it when `below`. A remount with
/// flags would fail on mounts whose flags the host has locked; this call only ever adds.
fn read_only(path: &Path, below: bool) -> io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    // SAFETY: all zero is a valid value of this plain C struct.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let flags = if below { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path and the struct outlive the call, and the size is the struct's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn tmpfs(path: &Path, options: &str) -> nix::Result<()> {
    mount(Some("tmpfs"), path, Some("tmpfs"), NO_SUID_NO_DEV, Some(options))
}

fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn step<E: Into<io::Error>>(name: &'static str) -> impl Fn(E) -> Step {
    move |error| (name, error.into())
}
