//! A Python environment for the tests: pytest, and a server that speaks S3.

use crate::run::{self, Failure};
use std::path::PathBuf;
use std::process::Command;

/// What the tests of the SDK and of the storage of assets are run with.
const PACKAGES: [&str; 3] = ["pytest==9.2.0", "mypy==2.4.1", "moto[server]==5.2.5"];

pub(crate) struct Environment {
    pub(crate) interpreter: PathBuf,
    pub(crate) moto: PathBuf,
}

/// The environment, made in `target/` by the first run.
pub(crate) fn environment() -> Result<Environment, Failure> {
    let folder = std::path::absolute(run::target().join("test-python"))?;
    let interpreter = folder.join("bin/python");
    let mark = folder.join("installed.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == PACKAGES.join("\n")) {
        return Ok(Environment { interpreter, moto: folder.join("bin/moto_server") });
    }
    println!("xtask: making a Python environment for the tests");
    let make = || run::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    if make().is_err() {
        // Debian keeps the module in a package of its own.
        run::install(&["python3-venv"])?;
        make()?;
    }
    run::run(
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    std::fs::write(&mark, PACKAGES.join("\n"))?;
    Ok(Environment { interpreter, moto: folder.join("bin/moto_server") })
}
