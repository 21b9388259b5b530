//! Arguments, and the verbs that need no server.

use super::super::failure::{Exit, Failure};
use super::super::output::printable;
use super::super::policy::{InitArgs, check_folder};
use super::super::{Cli, json};
use clap::{CommandFactory, Parser};
use edict_client::{ApiError, Error};
use serde_json::json;
use std::fs;
use std::path::Path;

fn init(folder: &Path, name: Option<&str>) -> Result<String, Failure> {
    InitArgs { folder: folder.to_owned(), name: name.map(str::to_owned) }.create()
}

/// The problems of a new folder in which `policy.yaml` says this instead.
fn problems(yaml: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), Some("sample")).unwrap();
    fs::write(folder.path().join("policy.yaml"), yaml).unwrap();
    check_folder(folder.path()).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

fn accepts(arguments: &str) -> bool {
    Cli::try_parse_from(arguments.split(' ')).is_ok()
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_go_anywhere() {
    for arguments in [
        "edict --output json executor list",
        "edict executor --output json list",
        "edict executor list --output json --url http://h:1 --token t",
        "edict policy execute a:1-b --input -1 --executor e --logs",
        "edict job submit job.yaml --input -1 --wait --for 5m --timeout 5",
        "edict job submit --policy a:1-b --input 1 --node-selector zone=a,disk=ssd --node-selector x=y",
        "edict job wait j --for 500ms",
        "edict function deploy --name f --policy a:1-b --min 1 --max 3 --target-cpu 50 --for 60",
        "edict function update f --no-autoscaling --no-wait",
        "edict function scale f 3 --wait",
        "edict policy list --sort=-updated_at,name --limit 5",
    ] {
        assert!(accepts(arguments), "{arguments}");
    }
    for arguments in [
        "edict",
        "edict policy",
        "edict policy list --limit x",
        "edict policy execute a:1-b",
        "edict job submit",
        "edict job submit --policy a:1-b",
        "edict job submit --policy a:1-b --input 1 --for 5m",
        "edict job submit job.json --node-selector zone",
        "edict job submit job.json --executor e --allocator a:1-b",
        "edict job wait j --for soon",
        "edict function deploy --name f",
        "edict function deploy f.yaml --no-wait --for 5m",
        "edict function update f",
        "edict function update f --no-autoscaling --max 3",
        "edict function scale f many",
    ] {
        assert!(!accepts(arguments), "{arguments}");
    }
}

#[test]
fn help_lists_the_exit_codes_and_never_the_token() {
    let help = Cli::command().render_long_help().to_string();
    for exit in [
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::Refused,
        Exit::Unreachable,
        Exit::NotAllowed,
        Exit::TimedOut,
    ] {
        assert!(help.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
    }
    let token = Cli::command().get_arguments().find(|arg| arg.get_id() == "token").unwrap().clone();
    assert!(token.is_hide_env_values_set());
}

#[test]
fn a_new_folder_is_ready_to_push() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("within-limit");
    assert_eq!(init(&folder, None).unwrap(), "within-limit");
    let checked = check_folder(&folder).unwrap();
    assert_eq!(checked.policy.uri(), "within-limit:1.0-beta");
    assert_eq!(checked.policy.tags, "example,limit");
    assert_eq!(checked.path, folder);
    assert!(!checked.record.contains_key("code"));
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains("within-limit:1.0-beta") && !readme.contains("{{"));
}

#[test]
fn the_test_of_a_new_folder_passes() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), Some("sample")).unwrap();
    let ran =
        std::process::Command::new("python3").arg("test_policy.py").current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("Ran 4 tests"), "{said}");
}

#[test]
fn init_overwrites_nothing() {
    for file in ["README.md", "policy.yaml", "code/function.py"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let failure = init(folder.path(), Some("sample")).unwrap_err();
        assert!(failure.message.contains(&format!("`{file}` exists")), "{}", failure.message);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(!folder.path().join("test_policy.py").exists(), "something was written all the same");
    }
}

#[test]
fn init_wants_a_name_that_the_registry_takes() {
    let parent = tempfile::tempdir().unwrap();
    let failure = init(&parent.path().join("two words"), None).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains("`two words`") && failure.message.contains("--name"));
    assert!(!parent.path().join("two words").exists());
    init(&parent.path().join("two words"), Some("two-words")).unwrap();
}

#[test]
fn check_names_every_problem_at_once() {
    let found = problems("name: a/b\nversion: 1.10\ncode: x\nrevision: 3\nparameters: {}\ndescripton: x\n");
    let expected = [
        "policy.yaml: `code` does not belong here: the code is what is in the folder code/",
        "policy.yaml: `descripton` is not a field of a policy; did you mean `description`?",
        "policy.yaml: field `name` may only hold the characters A-Z a-z 0-9 . _ -, got `a/b`",
        "policy.yaml: `release_tag` is missing",
        "policy.yaml: `revision` does not belong here: the server sets it",
    ];
    for problem in expected {
        assert!(found.iter().any(|other| other == problem), "{problem}\nnot in {found:#?}");
    }
    assert!(found.iter().any(|problem| problem.contains("`parameters` is not a field")), "{found:#?}");
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
}

#[test]
fn check_names_the_field_of_a_wrong_type() {
    let names = "name: a\nversion: '1'\nrelease_tag: b\n";
    for (line, field) in [
        ("description: [x]", "`description`"),
        ("policy_parameters: 5", "`policy_parameters`"),
        ("execution_limits: {timeout_ms: -1}", "`execution_limits.timeout_ms`"),
        ("execution_limits: {timeout: 1}", "`execution_limits.timeout`"),
        ("tags: [a, {b: c}]", "`tags`"),
    ] {
        let found = problems(&format!("{names}{line}\n"));
        assert!(found.len() == 1 && found[0].contains(field), "{line}: {found:?}");
    }
}

#[test]
fn a_version_without_quotes_stays_as_written() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), Some("sample")).unwrap();
    fs::write(folder.path().join("policy.yaml"), "name: 7\nversion: 1.10\nrelease_tag: 2\n").unwrap();
    assert_eq!(check_folder(folder.path()).unwrap().policy.uri(), "7:1.10-2");
}

#[test]
fn broken_yaml_is_told_with_its_place() {
    for (yaml, place) in
        [("name: [1\nb: 2\n", "line 2"), ("- a\n", "line 1"), ("name: a\nname: b\n", "line 2")]
    {
        let found = problems(yaml);
        assert!(found.len() == 1 && found[0].contains(place), "{yaml}: {found:?}");
    }
}

#[test]
fn a_yaml_bomb_is_refused() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        yaml.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let found = problems(&yaml);
    assert!(found.len() == 1 && found[0].contains("limit"), "{found:?}");
}

#[test]
fn a_folder_without_code_or_record_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let found: Vec<_> = check_folder(folder.path()).unwrap_err().iter().map(|problem| problem.file).collect();
    assert_eq!(found, ["code/function.py", "policy.yaml"]);
}

#[test]
fn json_arguments_keep_every_digit() {
    let text = r#"{"amount": 12345678901234567890.12345678901234567890}"#;
    assert_eq!(json::read("--input", text).unwrap().get(), text);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    fs::write(&file, format!("\n{text}\n")).unwrap();
    assert_eq!(json::read("--input", &format!("@{}", file.display())).unwrap().get(), text);
}

#[test]
fn json_arguments_that_are_not_json_are_wrong_usage() {
    for failure in
        [json::read("--input", "{ip: 1}").unwrap_err(), json::read_object("--data", "[1]").unwrap_err()]
    {
        assert_eq!(failure.exit, Exit::Usage, "{}", failure.text());
    }
    let missing = json::read("--input", "@/no/such/file").unwrap_err();
    assert_eq!(missing.exit, Exit::Failed);
}

fn refusal(status: u16) -> ApiError {
    ApiError {
        status,
        code: "policy_not_found".to_owned(),
        message: "no policy `a:1-b`".to_owned(),
        details: json!([{"pointer": "/a", "message": "too long"}, "and\nmore"]),
        request_id: Some("r-1".to_owned()),
        retry_after: None,
    }
}

#[test]
fn every_refusal_has_its_exit_code() {
    for (status, exit) in [
        (400, Exit::Refused),
        (401, Exit::NotAllowed),
        (403, Exit::NotAllowed),
        (404, Exit::NotFound),
        (409, Exit::Refused),
        (422, Exit::Refused),
        (429, Exit::Failed),
        (502, Exit::Failed),
        (503, Exit::Failed),
    ] {
        assert_eq!(Failure::from(Error::Api(Box::new(refusal(status)))).exit, exit, "{status}");
    }
    let unreachable =
        Error::Unreachable { url: "http://h".to_owned(), reason: "refused".to_owned(), source: None };
    assert_eq!(Failure::from(unreachable).exit, Exit::Unreachable);
}

#[test]
fn a_refusal_tells_message_code_request_and_details() {
    let text = Failure::from(Error::Api(Box::new(refusal(404)))).text();
    let expected = "error: no policy `a:1-b`\n  details:\n    {\"message\":\"too long\",\"pointer\":\"/a\"}\n    and\n    \
                    more\n  code: policy_not_found\n  request: r-1\n";
    assert_eq!(text, expected);
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal() {
    assert_eq!(printable("a\u{1b}[2Jb\rc\nd é"), "a\\u{1b}[2Jb\\rc\nd é");
}
