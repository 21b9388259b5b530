//! Where code comes from, and code that is refused.

use crate::support::{TestApp, WebServer, archive, policy, policy_source};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_archive_runs() {
    let (app, web) = (TestApp::start(), WebServer::start().await);
    let source = "from helper import answer\n".to_owned() + &policy_source("return answer()");
    let files = [("code/function.py", source.as_str()), ("code/helper.py", "def answer():\n    return 42\n")];
    let archives = [
        ("a.zip", archive::zip(&files)),
        ("a.tar.gz", archive::tar_gz(&files)),
        ("a.tar.xz", archive::tar_xz(&files)),
        ("unnamed", archive::tar_xz(&files)),
    ];
    for (index, (name, content)) in archives.into_iter().enumerate() {
        let url = web.put(&format!("/{name}"), content.clone());
        app.register(&policy(&format!("p{index}"), &url)).await;
        assert_eq!(app.run(&format!("p{index}:1.0-test"), json!({})).await.1["data"], 42, "{name}");
        let got = app.request("GET", &format!("/policy/p{index}:1.0-test/code")).send().await.unwrap();
        assert_eq!(got.bytes().await.unwrap(), content, "the code is kept as it came");
    }
}

async fn refused(app: &TestApp, code: &str) -> Value {
    let (status, reply) = app.json("POST", "/policy", &policy("bad", code)).await;
    assert_eq!((status, &reply["error"]["code"]), (422, &json!("invalid_code")), "{reply}");
    assert_eq!(app.get("/policy/bad:1.0-test").await.0, 404, "nothing was stored");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_hostile_archives_are_refused_with_the_reason() {
    let (app, web) = (TestApp::start(), WebServer::start().await);
    let good = policy_source("return 1");
    let function = ("code/function.py", good.as_str());
    let whole = archive::zip(&[function]);
    let zeros = "0".repeat(300 << 20);
    let mut many: Vec<(String, &str)> = (0..10_001).map(|n| (format!("code/f{n}.py"), "")).collect();
    many.push(("code/function.py".to_owned(), &good));
    let many: Vec<(&str, &str)> = many.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let cases = [
        ("bundle_truncated", whole[..whole.len() / 2].to_vec()),
        ("bundle_unknown_format", b"<html>not an archive</html>".to_vec()),
        ("bundle_no_function", archive::zip(&[("code/other.py", "")])),
        ("bundle_unsafe_path", archive::tar_gz(&[function, ("../outside.py", "")])),
        ("bundle_unsafe_path", archive::tar_xz(&[function, ("/etc/outside.py", "")])),
        ("bundle_unsafe_path", archive::zip(&[function, ("code/../../outside.py", "")])),
        ("bundle_unsafe_link", archive::with_link(&good, "code/passwd", "/etc/passwd")),
        ("bundle_unsafe_link", archive::with_link(&good, "code/up", "../../up")),
        ("bundle_too_large", archive::tar_gz(&[function, ("code/zeros", &zeros)])),
        ("bundle_too_many_files", archive::tar_gz(&many)),
    ];
    for (reason, content) in cases {
        let reply = refused(&app, &web.put("/bad", content)).await;
        assert_eq!(reply["error"]["details"]["reason"], reason, "{reply}");
        assert!(reply["message"].as_str().unwrap().starts_with("field `code`: "), "{reply}");
    }
    app.register(&policy("good", &web.put("/good.zip", whole))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_cannot_be_a_policy_is_refused() {
    let app = TestApp::start();
    let missing = refused(&app, "def eval():\n    pass\n").await;
    assert!(missing["message"].as_str().unwrap().contains("AIOSv1PolicyRule"), "{missing}");
    let no_eval = refused(&app, "class AIOSv1PolicyRule:\n    pass\n").await;
    assert!(no_eval["message"].as_str().unwrap().contains("eval"), "{no_eval}");
    let broken = refused(&app, "class AIOSv1PolicyRule:\n    def eval(self:\n        pass\n").await;
    assert!(broken["message"].as_str().unwrap().contains("line 2"), "{broken}");
    let no_asset = refused(&app, "nobody:1.0-beta").await;
    assert!(no_asset["message"].as_str().unwrap().contains("`nobody:1.0-beta`"), "{no_asset}");
}

/// Registering only parses: what a module does when imported must not happen in the server's reach.
#[tokio::test(flavor = "multi_thread")]
async fn registering_does_not_run_the_code() {
    let app = TestApp::start();
    let witness = app.data_dir().join("witness");
    let source = format!("open({:?}, 'w')\n{}", witness.display().to_string(), policy_source("return 1"));
    app.register(&policy("writes", &source)).await;
    assert!(!witness.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_modules_in_requirements_are_skipped_with_a_warning() {
    let (app, web) = (TestApp::start(), WebServer::start().await);
    let source = policy_source("return 1");
    let packed = archive::zip(&[("code/function.py", &source), ("code/requirements.txt", "logging\njson\n")]);
    let made = app.register(&policy("skips", &web.put("/skips.zip", packed))).await;
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(warning.contains("logging") && warning.contains("json"), "{warning}");
    assert_eq!(app.run("skips:1.0-test", json!({})).await.1["data"], 1);
}
