//! What people do often with this repository: `cargo xtask test`, `cargo xtask lint`, `cargo xtask image`.

mod cluster;
mod image;
mod postgres;
mod python;
mod run;

use run::{Failure, cargo};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [ARGS]   install what the tests need, then run them all; ARGS go to `cargo test`
                          (EDICT_TEST_CLUSTER: a script that starts a Kubernetes cluster for them;
                          EDICT_TEST_IMAGES=1: replace servers in it under load, too)
cargo xtask lint          formatting and clippy, warnings being errors";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let done = match verb.as_deref() {
        Some("test") => test(&rest),
        Some("lint") => lint(),
        Some("image") => image::Options::parse(&rest).and_then(|options| image::build(&options)),
        _ => {
            println!("{HELP}\n{}", image::Options::HELP);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            println!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Result<(), Failure> {
    // The documents' commands are run, and they use these.
    if run::output("curl", &["--version"]).is_err() {
        run::install(&["curl", "ca-certificates"])?;
    }
    // The alerting rules are tried with Prometheus' own tools.
    if run::output("promtool", &["--version"]).is_err() {
        run::install(&["prometheus"])?;
    }
    let python = python::environment()?;
    let postgres = postgres::start()?;
    // After what installs packages: the script does too, and they would wait for each other's locks, or not even wait.
    let cluster = cluster::start()?;
    // The first start of a cluster takes minutes, and so does compiling.
    run::run(cargo().args(["test", "--workspace", "--no-run"]).args(arguments))?;
    let cluster = cluster.wait()?;
    let mut command = cargo();
    command.args(["test", "--workspace"]).args(arguments);
    command.env("EDICT_TEST_POSTGRES_URL", &postgres.url);
    command.env("EDICT_TEST_POSTGRES_BIN", &postgres.bin);
    command.env("EDICT_TEST_PYTHON", &python.interpreter);
    command.env("EDICT_TEST_MOTO", &python.moto);
    command.env("EDICT_TEST_PROMETHEUS", "prometheus");
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        // Most tests wait most of the time, for a cluster, a database or a process.
        let cores = std::thread::available_parallelism()?.get();
        command.env("RUST_TEST_THREADS", (3 * cores).to_string());
    }
    if let Some(cluster) = &cluster {
        command.env("EDICT_TEST_KUBECONFIG", &cluster.kubeconfig);
        command.env("EDICT_TEST_IMAGE", cluster.image);
        command.env("EDICT_TEST_IMAGE_EDICT", cluster.edict);
    }
    run::run(&mut command)
}

fn lint() -> Result<(), Failure> {
    run::run(cargo().args(["fmt", "--all", "--check"]))?;
    run::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
