//! Policies with a `requirements.txt`.

use crate::support::{TestApp, policy_source, refusal};
use edict_runtime::environment::{EnvironmentOptions, Environments, Python};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn requirements_are_installed_once_and_shared() {
    let app = TestApp::start();
    let uses_six = policy_source(
        "import logging, six\nlogging.info('six is there')\nreturn [six.__version__, input_data]",
    );
    let requirements = "logging\nsix==1.17.0\n";
    let files = [("code/function.py", uses_six.as_str()), ("code/requirements.txt", requirements)];
    let first = app.register_archive("first", &files).await;
    let (_, record) = app.get(&format!("/policy/{first}")).await;
    assert_eq!(record["data"]["revision"], 1, "{record}");
    let started = Instant::now();
    assert_eq!(app.result(&first, json!(1)).await, json!(["1.17.0", 1]));
    let installing = started.elapsed();
    let environments = |app: &TestApp| {
        let folder = app.data_dir().join("cache/environments");
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        entries
            .filter(|entry| entry.path().join("bin/python").is_symlink() && entry.path().join("lib").is_dir())
            .count()
    };
    let before = environments(&app);
    // The same requirements, other code.
    let source = policy_source("import six\nreturn six.text_type(input_data)");
    let files = [("code/function.py", source.as_str()), ("code/requirements.txt", requirements)];
    let second = app.register_archive("second", &files).await;
    let started = Instant::now();
    assert_eq!(app.result(&second, json!(2)).await, "2");
    assert!(
        started.elapsed() < installing.max(Duration::from_secs(2)),
        "{:?}, {installing:?}",
        started.elapsed()
    );
    assert_eq!(environments(&app), before, "a second environment was made");
    // Nobody else gets it.
    let bare = app.add("bare", "import six").await;
    let reply = app.run(&bare, json!(0)).await;
    assert_eq!(reply.1["error"]["details"]["type"], "ModuleNotFoundError", "{}", reply.1);

    // A release that does not exist.
    let files = [("code/function.py", source.as_str()), ("code/requirements.txt", "six==999.0.0\n")];
    let impossible = app.register_archive("impossible", &files).await;
    for _ in 0..2 {
        let reply = app.run(&impossible, json!(0)).await;
        assert_eq!(refusal(&reply), (502, "environment_failed"), "{}", reply.1);
        let message = reply.1["message"].as_str().unwrap();
        assert!(message.contains("six==999.0.0"), "the installer's last lines are missing: {message}");
        assert!(!message.contains(&app.data_dir().display().to_string()), "{message}");
    }
    assert_eq!(app.result(&first, json!(3)).await, json!(["1.17.0", 3]));
}

/// A package index with one package, which may be absent for now and takes its time.
pub(crate) struct Index {
    pub(crate) url: String,
    pub(crate) there: Arc<AtomicBool>,
    pub(crate) asked: Arc<AtomicUsize>,
}

const WHEEL: &str = r#"
import sys, zipfile
info = "edict_sample-1.0.dist-info"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("edict_sample.py", "ANSWER = 42\n")
    wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\nName: edict-sample\nVersion: 1.0\n")
    wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "/RECORD", "edict_sample.py,,\n" + "".join(info + "/" + name + ",,\n" for name in ("METADATA", "WHEEL", "RECORD")))
"#;

impl Index {
    pub(crate) async fn start(address: IpAddr, delay: Duration) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("edict_sample-1.0-py3-none-any.whl");
        assert!(Command::new("python3").args(["-c", WHEEL]).arg(&path).status().unwrap().success());
        let wheel = Arc::new(std::fs::read(path).unwrap());
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}/simple", listener.local_addr().unwrap());
        let (there, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_there, counted) = (Arc::clone(&there), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (wheel, is_there, counted) =
                    (Arc::clone(&wheel), Arc::clone(&is_there), Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut request = vec![0; 16384];
                    let size = stream.read(&mut request).await.unwrap_or(0);
                    let line = String::from_utf8_lossy(&request[..size])
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    let (status, kind, body) = if path.ends_with(".whl") {
                        ("200 OK", "application/octet-stream", wheel.to_vec())
                    } else {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(delay).await;
                        if is_there.load(Ordering::SeqCst) {
                            let name = "edict_sample-1.0-py3-none-any.whl";
                            (
                                "200 OK",
                                "text/html",
                                format!("<a href=\"/files/{name}\">{name}</a>").into_bytes(),
                            )
                        } else {
                            ("404 Not Found", "text/plain", Vec::new())
                        }
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).await.ok();
                    if !line.starts_with("HEAD ") {
                        stream.write_all(&body).await.ok();
                    }
                });
            }
        });
        Self { url, there, asked }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_installation_is_retried_and_holds_up_nobody_else() {
    let folder = tempfile::TempDir::new().unwrap();
    let python = Python::discover(None).await.unwrap();
    let uv =
        Environments::open(folder.path(), python, EnvironmentOptions::default()).unwrap().uv().await.unwrap();
    let index = Index::start(Ipv4Addr::LOCALHOST.into(), Duration::from_secs(2)).await;
    let app = TestApp::builder().setting("uv", uv.display()).setting("index_url", &index.url).start();
    let source = policy_source("import edict_sample\nreturn edict_sample.ANSWER");
    let files = [("code/function.py", source.as_str()), ("code/requirements.txt", "edict-sample==1.0\n")];
    let uri = app.register_archive("sample", &files).await;
    let good = app.add("good", "return 'good'").await;

    let reply = app.run(&uri, json!(0)).await;
    assert_eq!(refusal(&reply), (502, "environment_failed"), "{}", reply.1);
    assert!(reply.1["message"].as_str().unwrap().contains("edict-sample"), "{}", reply.1);
    assert!(!app.log().contains("internal error"));
    let asked = index.asked.load(Ordering::SeqCst);
    index.there.store(true, Ordering::SeqCst);

    // Several callers wait for one installation, while others run.
    let installing = AtomicBool::new(true);
    let waiting = async {
        let results = futures::future::join_all((0..4).map(|_| app.result(&uri, json!(0)))).await;
        installing.store(false, Ordering::SeqCst);
        results
    };
    let others = async {
        let mut meanwhile = 0;
        while installing.load(Ordering::SeqCst) {
            assert_eq!(app.result(&good, json!(0)).await, "good");
            meanwhile += 1;
        }
        meanwhile
    };
    let (results, meanwhile) = tokio::join!(waiting, others);
    assert_eq!(results, vec![json!(42); 4]);
    assert!(meanwhile > 10, "only {meanwhile} runs of another policy");
    assert_eq!(index.asked.load(Ordering::SeqCst), asked + 1, "it was installed more than once");
}
