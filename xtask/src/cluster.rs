//! A Kubernetes cluster for the tests: one that is there (`EDICT_TEST_KUBECONFIG`), or one that a script starts
//! (`EDICT_TEST_CLUSTER`: its verbs are `up`, `kubeconfig` and `load FILE`, and `image-tar` beside it makes an image of a
//! folder).

use crate::image;
use crate::run::{self, Failure, output};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// What the tests' workloads are made of.
const IMAGE: &str = "localhost/edict-test:1";

/// The program under test.
const EDICT: &str = "localhost/edict:test";

/// What of busybox they use.
const PROGRAMS: [&str; 4] = ["sh", "sleep", "false", "true"];

/// A cluster on its way up.
pub(crate) enum Starting {
    /// There is none.
    Nowhere,
    /// It is there; tests read the variables themselves.
    There,
    /// A script is starting it, and what of the image needs no program is being built.
    Script { script: PathBuf, up: Child, image: JoinHandle<Result<(), Failure>> },
}

/// How to reach a cluster.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) image: &'static str,
    /// The image of the program under test.
    pub(crate) edict: &'static str,
}

/// Starts the script, if there is one, without waiting for it.
pub(crate) fn start() -> Result<Starting, Failure> {
    if std::env::var_os("EDICT_TEST_KUBECONFIG").is_some() {
        return Ok(Starting::There);
    }
    let Some(script) = std::env::var_os("EDICT_TEST_CLUSTER").map(PathBuf::from) else {
        println!(
            "xtask: no cluster: what needs one is skipped (set EDICT_TEST_KUBECONFIG or EDICT_TEST_CLUSTER)"
        );
        return Ok(Starting::Nowhere);
    };
    let script = std::path::absolute(script)?;
    // Before the script starts: it installs packages, too, and does not wait for others that do.
    if output("dpkg", &["-s", "busybox-static"]).is_err() {
        run::install(&["busybox-static"])?;
    }
    image::Builder::find()?;
    image::install_debootstrap()?;
    let up = Command::new(&script).arg("up").stdin(Stdio::null()).spawn();
    let up = up.map_err(|error| Failure(format!("{}: {error}", script.display())))?;
    Ok(Starting::Script { script, up, image: std::thread::spawn(image::prepare) })
}

impl Starting {
    /// Waits until it is up, and gives it the image that the tests use.
    pub(crate) fn wait(self) -> Result<Option<Cluster>, Failure> {
        let Self::Script { script, mut up, image } = self else { return Ok(None) };
        let status = up.wait()?;
        if !status.success() {
            return Err(Failure(format!("{} up: {status}", script.display())));
        }
        load_image(&script)?;
        image.join().map_err(|_| Failure("the image's parts could not be built".to_owned()))??;
        load_edict(&script)?;
        let kubeconfig = output(&script.display().to_string(), &["kubeconfig"])?.into();
        Ok(Some(Cluster { kubeconfig, image: IMAGE, edict: EDICT }))
    }
}

/// The program that was just compiled for the tests, as its image.
fn load_edict(script: &Path) -> Result<(), Failure> {
    let program = run::target().join("debug/edict");
    if !program.exists() {
        // Only other crates' tests are asked for.
        return Ok(());
    }
    let edict = image::Options::of(program, EDICT)?;
    image::build(&edict)?;
    output(&script.display().to_string(), &["load", &edict.output.display().to_string()]).map(drop)
}

/// A static busybox, from Debian's package, as an image.
fn load_image(script: &Path) -> Result<(), Failure> {
    let folder = PathBuf::from(output("mktemp", &["-d", "/tmp/edict-image.XXXXXX"])?);
    let bin = folder.join("root/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox"))?;
    for program in PROGRAMS {
        symlink("busybox", bin.join(program))?;
    }
    let (tar, root) = (folder.join("image.tar"), folder.join("root"));
    let image_tar = script.with_file_name("image-tar");
    // Does nothing, for good, unless a workload has a command of its own.
    run::run(Command::new(image_tar).arg(&tar).arg(IMAGE).arg(root).args(["/bin/sleep", "1000000"]))?;
    output(&script.display().to_string(), &["load", &tar.display().to_string()])?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
