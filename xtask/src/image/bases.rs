//! The images that ours is based on. Where no registry is reached, they are made from Debian's packages and this machine's Rust,
//! under their usual names.

use super::Builder;
use crate::run::{self, Failure, output};
use std::path::Path;
use std::process::Command;

const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";
const RUST: &str = "docker.io/library/rust:1.95-slim-bookworm";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the slim image leaves out.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

/// Sees to it that they are there: pulled, or made.
pub(super) fn provide(builder: Builder, compile: bool, folder: &Path) -> Result<(), Failure> {
    if !is_there(builder, DEBIAN)? {
        let tar = folder.join("debian.tar");
        run::run(debian()?.arg(&tar))?;
        builder.import(&tar, DEBIAN, PATH)?;
    }
    if compile && !is_there(builder, RUST)? {
        let tar = folder.join("rust.tar");
        let sysroot = output("rustc", &["--print", "sysroot"])?;
        let mut command = debian()?;
        command.arg("--include=gcc,libc6-dev,ca-certificates");
        for part in ["bin", "lib"] {
            command.arg(format!("--customize-hook=sync-in {sysroot}/{part} /usr/local/{part}"));
        }
        run::run(command.arg(&tar))?;
        builder.import(&tar, RUST, PATH)?;
    }
    Ok(())
}

fn is_there(builder: Builder, name: &str) -> Result<bool, Failure> {
    let program = builder.program();
    let known = match builder {
        Builder::Docker => output(program, &["image", "inspect", name]),
        Builder::Podman => output(program, &["image", "exists", name]),
        Builder::Buildah => output(program, &["inspect", "--type", "image", name]),
    };
    if known.is_ok() || output(program, &["pull", "--quiet", name]).is_ok() {
        return Ok(true);
    }
    if output("dpkg", &["--version"]).is_err() {
        return Err(Failure(format!("{name} can neither be pulled nor, without Debian's tools, be made")));
    }
    println!("xtask: {name} cannot be pulled: making it from packages");
    Ok(false)
}

/// What makes Debian's image where it cannot be pulled.
pub(crate) fn install_debootstrap() -> Result<(), Failure> {
    match output("mmdebstrap", &["--version"]) {
        Ok(_) => Ok(()),
        Err(_) => run::install(&["mmdebstrap"]),
    }
}

/// mmdebstrap with what the slim image has.
fn debian() -> Result<Command, Failure> {
    install_debootstrap()?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--components=main"]);
    // Without it, Debian's way to have one /usr comes with all of Perl.
    command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr");
    command.args(LEFT_OUT.map(|option| format!("--dpkgopt={option}")));
    command.arg("bookworm");
    Ok(command)
}
