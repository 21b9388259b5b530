//! The command line: one file per verb, and here their table of contents.
//!
//! Exit codes, for scripts: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by the server, 5 the server cannot
//! be reached, 6 not allowed, 7 still under way, 8 denied by the policy engine. What a verb found or made goes to
//! stdout, everything else to stderr.

mod action;
mod asset;
mod audit;
mod completions;
mod config;
mod decide;
mod decisions;
mod demo;
mod doctor;
mod executor;
mod failure;
mod function;
mod graph;
mod job;
mod json;
mod list;
mod output;
mod policy;
mod request;
mod serve;
#[cfg(test)]
mod tests;

use clap::{Args, Parser, Subcommand, value_parser};
use edict_client::Client;
use failure::Failure;
use output::{Format, Output};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed (a policy's own errors and problems in a policy folder too)
  2  wrong usage
  3  not found
  4  refused by the server: it does not fit the schema, exists already, has changed meanwhile
  5  the server cannot be reached
  6  not allowed: the token is missing, wrong, or its role may not do this
  7  still under way when the wait was over
  8  denied: the policy engine does not allow it";

/// Registers policies, runs them, decides what is allowed and carries it out.
#[derive(Parser)]
#[command(name = "edict", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every verb takes. No `Debug`: it would print the token.
#[derive(Args)]
pub(crate) struct Global {
    /// Address of the policy system
    #[arg(
        long,
        global = true,
        env = "EDICT_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000"
    )]
    url: String,
    /// Token to present; better given as EDICT_TOKEN, where other users of the machine cannot see it
    #[arg(long, global = true, env = "EDICT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Tables for people, JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,
    /// Longest wait for an answer
    #[arg(long, global = true, default_value_t = 120, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..))]
    timeout: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything in a temporary folder and show what Edict does
    Demo(demo::DemoArgs),
    /// Run the server: policy system, policy engine, action executor
    Serve(serve::ServeArgs),
    /// Make, check, run, publish and find policies
    Policy(policy::PolicyArgs),
    /// Have policies run once, in a queue that survives restarts
    Job(job::JobArgs),
    /// Policies deployed as long-lived services
    Function(function::FunctionArgs),
    /// Graphs of functions: publish, draw and run them
    Graph(graph::GraphArgs),
    /// Ask the policy engine whether an action is allowed, or decide here by policies in files
    Decide(decide::DecideArgs),
    /// Policies behind the policy engine's decisions: register, list and remove them
    Decisions(decisions::DecisionsArgs),
    /// Have the action executor change something on the cluster
    Action(action::ActionArgs),
    /// Policy executors: run one here, list those that are registered, set one up in a cluster
    Executor(executor::ExecutorArgs),
    /// Stored files
    Asset(asset::AssetArgs),
    /// The audit trail of actions: what was done, by whom, and that nobody changed what it says
    Audit(audit::AuditArgs),
    /// Check what this machine offers: Python, uv, database, sandbox
    Doctor(doctor::DoctorArgs),
    /// Print the effective settings, commented, secrets masked
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Global {
    /// A client for the policy system.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_for(&self.url)
    }

    /// A client for another part, at `url`.
    pub(crate) fn client_for(&self, url: &str) -> Result<Client, Failure> {
        let builder = Client::builder(url).timeout(Duration::from_secs(self.timeout));
        let builder = match self.token.as_deref() {
            // An empty variable is how shells say "none".
            None | Some("") => builder,
            Some(token) => builder.token(token)?,
        };
        Ok(builder.build()?)
    }
}

/// The whole program: reads the arguments, does what they say, and returns the exit code.
pub(crate) fn main() -> ExitCode {
    // Before any thread starts: this changes the environment. Variables that are set already win.
    if let Err(error) = load_dotenv() {
        return error.report();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help, version or wrong usage. When nobody reads it, there is nothing left to tell anybody.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
        .and_then(|runtime| runtime.block_on(run(cli, &mut io::stdout())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Makes `.env` in the working folder part of the environment.
fn load_dotenv() -> Result<(), Failure> {
    match dotenvy::from_path(".env") {
        Err(error) if !error.not_found() => Err(Failure::usage(format!("`.env` cannot be read: {error}"))),
        _ => Ok(()),
    }
}

async fn run(cli: Cli, stdout: &mut dyn Write) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let out = &mut Output::new(global.output, stdout);
    match command {
        Command::Demo(args) => demo::run(args, out).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Policy(args) => policy::run(args, &global, out).await,
        Command::Job(args) => job::run(args, &global, out).await,
        Command::Function(args) => function::run(args, &global, out).await,
        Command::Graph(args) => graph::run(args, &global, out).await,
        Command::Decide(args) => decide::run(args, &global, out).await,
        Command::Decisions(args) => decisions::run(args, &global, out).await,
        Command::Action(args) => action::run(args, &global, out).await,
        Command::Executor(args) => executor::run(args, &global, out).await,
        Command::Asset(args) => asset::run(args, &global, out).await,
        Command::Audit(args) => audit::run(args, &global, out).await,
        Command::Doctor(args) => doctor::run(args, out).await,
        Command::Config(args) => config::run(&args, out),
        Command::Completions(args) => completions::run(args, out),
    }
}
