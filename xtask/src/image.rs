//! `cargo xtask image`: the container image, by whatever builds images here, and an archive of it that clusters load.

mod bases;

pub(crate) use bases::install_debootstrap;

use crate::run::{self, Failure, output};
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCKERFILE: &str = "deploy/Dockerfile";
/// The image without the program.
const READY: &str = "localhost/edict:ready";
/// What this machine trusts; the build trusts the same.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is asked for.
pub(crate) struct Options {
    /// A program to pack instead of compiling one.
    pub(crate) binary: Option<PathBuf>,
    /// How the program is compiled.
    pub(crate) profile: String,
    pub(crate) tag: String,
    /// The archive.
    pub(crate) output: PathBuf,
}

impl Options {
    /// An image for tests, of a program that is there.
    pub(crate) fn of(binary: PathBuf, tag: &str) -> Result<Self, Failure> {
        let mut options = Self::parse(&[])?;
        options.binary = Some(binary);
        options.tag = tag.to_owned();
        options.output = folder()?.join("edict-test.tar");
        Ok(options)
    }

    pub(crate) const HELP: &str = "\
cargo xtask image         the container image, and an archive of it in target/image/edict.tar
    --binary FILE         pack this program instead of compiling one
    --profile NAME        how to compile: release (the default) or dev
    --tag NAME            the image's name (default: edict and the version)
    --output FILE         the archive";

    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            binary: None,
            profile: "release".to_owned(),
            tag: concat!("edict:", env!("CARGO_PKG_VERSION")).to_owned(),
            output: folder()?.join("edict.tar"),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .cloned()
                    .ok_or_else(|| Failure(format!("`{word}` wants a value\n{}", Self::HELP)))
            };
            match word.as_str() {
                "--binary" => options.binary = Some(value()?.into()),
                "--profile" => options.profile = value()?,
                "--tag" => options.tag = value()?,
                "--output" => options.output = value()?.into(),
                _ => return Err(Failure(format!("`{word}` is no option\n{}", Self::HELP))),
            }
        }
        Ok(options)
    }
}

/// Where what is made on the way lies.
fn folder() -> Result<PathBuf, Failure> {
    let folder = std::path::absolute(run::target().join("image"))?;
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Builds everything but the program's own layer, which [`build`] then finds: it takes minutes, and needs no program.
pub(crate) fn prepare() -> Result<(), Failure> {
    let builder = Builder::find()?;
    bases::provide(builder, false, &folder()?)?;
    let empty = folder()?.join("empty");
    std::fs::create_dir_all(&empty)?;
    run::run(builder.build().args(["--target", "ready", "--tag", READY]).arg(empty))
}

/// Builds the image and writes the archive.
pub(crate) fn build(options: &Options) -> Result<(), Failure> {
    let builder = Builder::find()?;
    bases::provide(builder, options.binary.is_none(), &folder()?)?;
    let mut command = builder.build();
    command.args(["--tag", &options.tag]);
    match &options.binary {
        Some(binary) => command.args(["--target", "prebuilt"]).arg(packed(binary)?),
        None => command.args(["--build-arg", &format!("PROFILE={}", options.profile), "."]),
    };
    run::run(&mut command)?;
    builder.save(&options.tag, &options.output)?;
    println!("xtask: {} is in {}", options.tag, options.output.display());
    Ok(())
}

/// A folder with nothing but the program, without what debuggers read.
fn packed(binary: &Path) -> Result<PathBuf, Failure> {
    let folder = folder()?.join("program");
    std::fs::create_dir_all(&folder)?;
    run::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(folder.join("edict")).arg(binary))?;
    Ok(folder)
}

/// A program that builds images from a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builder {
    Docker,
    Podman,
    Buildah,
}

impl Builder {
    /// The first one that works here; buildah is installed when there is none.
    pub(crate) fn find() -> Result<Self, Failure> {
        // docker's own command is of no use without its daemon, which `info` asks.
        for builder in [Self::Docker, Self::Podman, Self::Buildah] {
            if output(builder.program(), &["info"]).is_ok() {
                return Ok(builder);
            }
        }
        run::install(&["buildah"])?;
        output(Self::Buildah.program(), &["info"]).map(|_| Self::Buildah)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// With what lets it run inside a container, too: without namespaces of its own for each step.
    fn command(self) -> Command {
        let mut command = Command::new(self.program());
        if self != Self::Docker && std::env::var_os("BUILDAH_ISOLATION").is_none() {
            command.env("BUILDAH_ISOLATION", "chroot");
        }
        command
    }

    /// The start of a build.
    fn build(self) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--file", DOCKERFILE]);
        if Path::new(CERTIFICATES).exists() {
            command.args(["--secret", &format!("id=certificates,src={CERTIFICATES}")]);
        }
        if self == Self::Buildah {
            command.arg("--layers");
        }
        command
    }

    /// Writes an image into an archive.
    fn save(self, tag: &str, file: &Path) -> Result<(), Failure> {
        // None of them replaces a file.
        if file.exists() {
            std::fs::remove_file(file)?;
        }
        let mut command = self.command();
        match self {
            Self::Docker => command.args(["save", "--output"]).arg(file).arg(tag),
            Self::Podman => {
                command.args(["save", "--format", "docker-archive", "--output"]).arg(file).arg(tag)
            }
            Self::Buildah => {
                command.args(["push", "--quiet", tag, &format!("docker-archive:{}:{tag}", file.display())])
            }
        };
        run::run(&mut command)
    }

    /// Makes an image of a root file system in a tar, with instructions as a Dockerfile has them.
    fn import(self, tar: &Path, name: &str, path: &str) -> Result<(), Failure> {
        let variable = format!("PATH={path}");
        if self != Self::Buildah {
            let change = format!("ENV {variable}");
            return run::run(self.command().args(["import", "--change", &change]).arg(tar).arg(name));
        }
        let container = output("buildah", &["from", "scratch"])?;
        let tar = tar.display().to_string();
        output("buildah", &["add", &container, &tar, "/"])?;
        output("buildah", &["config", "--env", &variable, "--cmd", "bash", &container])?;
        output("buildah", &["commit", "--quiet", "--rm", &container, name]).map(drop)
    }
}
