//! Landlock: what may be read, what may be written, and no signal or abstract socket to the outside.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope, path_beneath_rules,
};

/// The kernel's Landlock version, 0 when it has none.
pub(crate) fn abi() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with the version flag the call takes a null pointer and size 0, and only returns a number.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Allow this process and its descendants to read `read`, to write `write`, and nothing else. What the
/// kernel's version lacks is left out.
pub(crate) fn restrict(read: &[PathBuf], write: &[PathBuf]) -> Result<(), RulesetError> {
    let files = AccessFs::from_all(ABI::V3);
    let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(ABI::V3)))?
        .add_rules(path_beneath_rules(write, files))?
        .add_rules(path_beneath_rules(
            devices.iter().map(Path::new).filter(|path| path.exists()),
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))?
        .restrict_self()?;
    Ok(())
}
