//! What the documents say about the product, compared with the product.

use super::markdown::{anchor, links, sections};
use super::{DOCUMENTS, root, text};
use crate::support::{EDICT, TestApp, policy, policy_source};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Routes of an API description, as `METHOD /path`.
fn routes(openapi: &Value) -> BTreeSet<String> {
    let paths = openapi["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_field_of_the_api_is_described() {
    let app = TestApp::start();
    let (_, openapi) = app.get("/openapi.json").await;
    let executor = TestApp::executor("documented", &app).start();
    let (_, executor_api) = executor.get("/openapi.json").await;
    drop(executor);
    let openapi_of = async |listener: &str| {
        let url = format!("{}/openapi.json", app.listener(listener));
        crate::support::reply(crate::support::http().get(url)).await.json
    };
    let (engine, actions) = (openapi_of("engine").await, openapi_of("actions").await);
    let page = text("docs/api.md");
    let described: BTreeSet<String> = sections(&page)
        .into_iter()
        .flat_map(|(heading, _)| heading.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|heading| heading.strip_prefix('`')?.strip_suffix('`').map(str::to_owned))
        .collect();
    let all = [&openapi, &executor_api, &engine, &actions];
    let real: BTreeSet<String> = all.into_iter().flat_map(routes).collect();
    assert_eq!(described, real, "headings of docs/api.md, routes of the API");
    for record in [
        "Policy",
        "ExecutionLimits",
        "Executor",
        "Asset",
        "AssetFileInfo",
        "ExecutePolicy",
        "Manage",
        "PolicyState",
        "DeployFunction",
        "Autoscaling",
        "Function",
        "FunctionStatus",
        "ManageFunction",
        "ReplicaAnswer",
        "AssignedFunction",
        "FunctionLog",
        "FunctionChanges",
        "SubmitJob",
        "Job",
        "JobLogRecord",
        "Alloc",
        "Graph",
        "ExecuteGraph",
        "GraphRun",
        "NodeRun",
        "DecisionRequest",
        "Decision",
        "DecisionError",
        "DecisionPolicy",
        "DecisionFolder",
        "ImportedDecisionPolicies",
        "DecisionPolicies",
        "AuditLog",
        "AuditEntry",
        "AuditStatistics",
        "AuditCount",
        "AuditVerdict",
        "AuditFault",
        "AuditHead",
    ] {
        let described = all.map(|api| &api["components"]["schemas"][record]);
        let schema = described.into_iter().find(|schema| !schema.is_null()).unwrap();
        // A record that holds another one in itself is described by all of its parts.
        let parts = schema["allOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice);
        let fields: Vec<&String> = parts
            .iter()
            .filter_map(|part| part["properties"].as_object())
            .flat_map(|part| part.keys())
            .collect();
        assert!(!fields.is_empty(), "{record}");
        for field in fields {
            assert!(page.contains(&format!("`{field}`")), "docs/api.md lacks `{field}` of {record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_listed() {
    let app = TestApp::start();
    app.json("POST", "/policy", &policy("counted", &policy_source("return {}"))).await;
    let run = json!({"policy_rule_uri": "counted:1.0-test", "input_data": {}});
    let (status, reply) = app.json("POST", "/executor/local/execute_policy", &run).await;
    assert_eq!(status, 200, "{reply}");
    app.deployed("local", "counted", "counted:1.0-test", json!({})).await;
    app.called("counted", json!({})).await;
    let metrics = crate::support::http().get(format!("{}/metrics", app.url())).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let page = text("docs/operations.md");
    let names: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    let all = ["edict_policy_runs_total", "edict_function_calls_total", "edict_function_replicas_ready"];
    assert!(all.iter().all(|name| metrics.contains(name)) && names.is_empty(), "not listed: {names:?}");
}

#[test]
fn every_setting_is_listed_with_its_default() {
    let sections: BTreeMap<String, String> = sections(&text("docs/operations.md")).into_iter().collect();
    let defaults: toml::Table = text("crates/edict/src/settings/edict.default.toml").parse().unwrap();
    let settings: BTreeMap<&str, String> = defaults
        .iter()
        .map(|(name, value)| {
            let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.as_str(), if empty { "empty".to_owned() } else { format!("`{shown}`") })
        })
        .collect();
    let rows: BTreeMap<&str, String> = sections["Settings"]
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" |")?.0.to_owned())))
        .collect();
    assert_eq!(rows, settings, "the table in docs/operations.md, and edict.default.toml");
}

/// The options and subcommands that a verb's help lists; settings are not counted as options.
fn help(verb: &str) -> (BTreeSet<String>, Vec<String>) {
    let output = Command::new(EDICT).args(verb.split_whitespace()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (mut options, mut verbs, mut part) = (BTreeSet::new(), Vec::new(), "");
    for line in help.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            part = heading;
        } else if part == "Commands"
            && let Some(name) = line.strip_prefix("  ").filter(|name| !name.starts_with(' '))
        {
            verbs.push(name.split(' ').next().unwrap().to_owned());
        } else if part == "Options"
            && let Some(option) = line.split_whitespace().take(2).find(|word| word.starts_with("--"))
        {
            options.insert(option.to_owned());
        }
    }
    verbs.retain(|verb| verb != "help");
    (options, verbs)
}

fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn every_verb_and_option_is_described() {
    let page = text("docs/cli.md");
    let sections: BTreeMap<String, String> = sections(&page).into_iter().collect();
    let (global, verbs) = help("");
    let general = sections.get("Options of every verb").unwrap();
    for option in global.iter().filter(|option| *option != "--help" && *option != "--version") {
        assert!(general.contains(&format!("`{option}")), "docs/cli.md lacks the global option {option}");
    }
    let mut todo = verbs;
    let mut described = BTreeSet::new();
    while let Some(verb) = todo.pop() {
        let (options, inner) = help(&verb);
        // A verb that only holds others needs no section of its own; some do something themselves, too.
        let both = ["executor", "job", "function"].contains(&verb.as_str());
        if inner.is_empty() || both {
            let body = sections.get(&format!("`edict {verb}`"));
            let body = body.unwrap_or_else(|| panic!("docs/cli.md has no section `edict {verb}`"));
            let own: BTreeSet<String> = options.difference(&global).cloned().collect();
            let missing: Vec<_> = own.iter().filter(|option| !body.contains(&format!("`{option}"))).collect();
            assert!(missing.is_empty(), "docs/cli.md, `edict {verb}` lacks {missing:?}");
            let settings = both || ["serve", "config", "doctor"].contains(&verb.as_str());
            let invented: Vec<_> = mentioned(body).difference(&options).cloned().collect();
            assert!(settings || invented.is_empty(), "docs/cli.md, `edict {verb}` has {invented:?}");
            described.insert(format!("`edict {verb}`"));
        }
        todo.extend(inner.iter().map(|name| format!("{verb} {name}")));
    }
    let all: BTreeSet<String> =
        sections.keys().filter(|heading| heading.starts_with("`edict ")).cloned().collect();
    assert_eq!(all, described, "sections of docs/cli.md, verbs of the command line");
}

/// Every source file of the crates.
fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_map_has_every_invariant_crate_and_room() {
    let page = text("docs/architecture.md");
    let mut files = Vec::new();
    let mut listed: Vec<String> = Vec::new();
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = folder.unwrap();
        listed.push(format!("  {}/", folder.file_name().to_string_lossy()));
        sources(&folder.path().join("src"), &mut files);
    }
    for folder in std::fs::read_dir(root().join("crates/edict/src")).unwrap() {
        let folder = folder.unwrap();
        if folder.path().join("mod.rs").exists() {
            listed.push(format!("src/{}/", folder.file_name().to_string_lossy()));
        }
    }
    let crates = root().join("crates");
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(&crates).unwrap().display().to_string();
        // Where it is declared a colon follows; where it is upheld the name alone is cited.
        let declared = source.match_indices("INVARIANT (").filter_map(|(at, sign)| {
            let (name, after) = source[at + sign.len()..].split_once(')')?;
            after.starts_with(':').then(|| format!("| {name} | `{place}` |"))
        });
        listed.extend(declared);
    }
    let missing: Vec<&String> = listed.iter().filter(|text| !page.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "docs/architecture.md lacks {missing:?}");
    let rows = page.lines().filter(|line| line.contains(".rs` | ")).count();
    assert_eq!(rows, listed.iter().filter(|text| text.starts_with('|')).count(), "a row names no invariant");
}

#[test]
fn links_lead_somewhere() {
    for path in DOCUMENTS {
        let folder = Path::new(path).parent().unwrap();
        for link in links(&text(path)).iter().filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.into() } else { folder.join(file) };
            assert!(root().join(&target).exists(), "{path}: `{link}` leads nowhere");
            if !fragment.is_empty() {
                let page = text(target.to_str().unwrap());
                let found = sections(&page).iter().any(|(heading, _)| anchor(heading) == fragment);
                assert!(found, "{path}: `{link}` names no heading");
            }
        }
    }
}
