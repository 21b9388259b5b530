//! The images that ours is based on, made from Debian's packages and this machine's Rust, under their usual names: for where no
//! registry is reached.

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

/// Makes those that are missing.
pub(super) fn make(builder: Builder, compile: bool, folder: &Path) -> Result<(), Failure> {
    if !is_there(builder, DEBIAN) {
        let tar = folder.join("debian.tar");
        run::run(debian()?.arg(&tar))?;
        builder.import(&tar, DEBIAN, PATH)?;
    }
    if compile && !is_there(builder, RUST) {
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

fn is_there(builder: Builder, name: &str) -> bool {
    match builder {
        Builder::Docker => output("docker", &["image", "inspect", name]).is_ok(),
        Builder::Podman => output("podman", &["image", "exists", name]).is_ok(),
        Builder::Buildah => output("buildah", &["inspect", "--type", "image", name]).is_ok(),
    }
}

/// mmdebstrap with what the slim image has.
fn debian() -> Result<Command, Failure> {
    if output("mmdebstrap", &["--version"]).is_err() {
        run::install(&["mmdebstrap"])?;
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--components=main"]);
    // Without it, Debian's way to have one /usr comes with all of Perl.
    command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr");
    command.args(LEFT_OUT.map(|option| format!("--dpkgopt={option}")));
    command.arg("bookworm");
    Ok(command)
}
