//! Policies that do harm: their callers get a clear error, everybody else notices nothing, and nothing is left.

use crate::support::{TestApp, files_below, policy_source, refusal, wait_for};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A name that no other test, and no other run of this one, uses.
fn unique() -> String {
    format!("edict-hostile-{}", uuid::Uuid::new_v4().simple())
}

/// What each does, its `eval`, and what its caller gets. An empty code stands for success.
const HOSTILE: &[(&str, &str, u16, &str)] = &[
    ("loops", "while True: pass", 504, "policy_timeout"),
    (
        "sleeps-deaf",
        "import signal, time\nfor n in range(1, 32):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\ntime.sleep(60)",
        504,
        "policy_timeout",
    ),
    ("loops-in-c", "return sum(range(10 ** 12))", 504, "policy_timeout"),
    (
        "catches-all",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        504,
        "policy_timeout",
    ),
    ("reads-stdin", "import sys\nreturn sys.stdin.read()", 200, ""),
    ("allocates", "kept = []\nwhile True: kept.append(bytearray(1 << 20))", 502, "policy_limit_exceeded"),
    ("allocates-at-once", "return len('x' * (1 << 40))", 502, "policy_limit_exceeded"),
    (
        "allocates-mmap",
        "import mmap\nkept = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24)\n    m.write(b'x' * (1 << 24))\n    kept.append(m)",
        0,
        "",
    ),
    ("forks", "import os\nwhile True: os.fork()", 502, ""),
    (
        "forks-and-stays",
        "import os, time\nfor _ in range(100):\n    try:\n        if os.fork() == 0:\n            os.setsid()\n            time.sleep(600)\n    except OSError:\n        break\nreturn 'forked'",
        200,
        "",
    ),
    (
        "threads",
        "import threading, time\nfor _ in range(10000): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        502,
        "policy_failed",
    ),
    (
        "starts-programs",
        "import subprocess\nfor _ in range(100): subprocess.Popen(['/bin/sleep', '600'])",
        502,
        "policy_failed",
    ),
    ("prints", "while True: print('x' * 1000)", 502, "policy_limit_exceeded"),
    ("prints-one-line", "import os\nwhile True: os.write(2, b'x' * 65536)", 502, "policy_limit_exceeded"),
    ("logs", "import logging\nwhile True: logging.error('x' * 1000)", 502, "policy_limit_exceeded"),
    (
        "fills-the-disk",
        "import os\nwith open(os.environ['TMPDIR'] + '/big', 'wb') as file:\n    while True: file.write(b'x' * (1 << 20))",
        502,
        "",
    ),
    (
        "fills-the-disk-with-files",
        "import os\nn = 0\nwhile True:\n    n += 1\n    open(os.environ['TMPDIR'] + '/' + str(n), 'w').write('x' * 100000)",
        502,
        "policy_failed",
    ),
    (
        "digs-deep",
        "import os\nos.chdir(os.environ['TMPDIR'])\nfor _ in range(1000):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\nopen('f', 'w').write('x')\nreturn 'deep'",
        200,
        "",
    ),
    (
        "locks-itself-out",
        "import os\ntmp = os.environ['TMPDIR']\nos.makedirs(tmp + '/a/b')\nos.symlink('/', tmp + '/a/root')\nos.chmod(tmp + '/a/b', 0)\nos.chmod(tmp + '/a', 0)\nos.chmod(tmp, 0)\nreturn 'locked'",
        200,
        "",
    ),
    ("returns-200-mb", "return 'x' * 200_000_000", 502, "policy_limit_exceeded"),
    ("returns-much-small-stuff", "return [[]] * 20_000_000", 502, "policy_limit_exceeded"),
    ("returns-a-set", "return {1, 2}", 502, "policy_output_invalid"),
    ("returns-itself", "a = []\na.append(a)\nreturn a", 502, "policy_output_invalid"),
    ("returns-depth", "a = []\nfor _ in range(100000): a = [a]\nreturn a", 502, "policy_output_invalid"),
    ("recurses", "def f(n): return f(n + 1)\nreturn f(0)", 502, "policy_failed"),
    (
        "recurses-in-c",
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return sorted([n], key=f)\nreturn f(0)",
        502,
        "",
    ),
    ("exits-0", "import os\nos._exit(0)", 502, "policy_crashed"),
    ("exits-3", "import os\nos._exit(3)", 502, "policy_crashed"),
    ("sys-exit", "import sys\nsys.exit(0)", 502, "policy_failed"),
    ("interrupts", "raise KeyboardInterrupt", 502, "policy_failed"),
    ("segfaults", "import ctypes\nctypes.string_at(0)", 502, "policy_crashed"),
    ("aborts", "import os\nos.abort()", 502, "policy_crashed"),
    (
        "kills-itself",
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nimport time\ntime.sleep(60)",
        0,
        "",
    ),
    (
        "kills-its-parent",
        "import os\nfor pid in (os.getppid(), 1, 2, -1, 0):\n    try:\n        os.kill(pid, 9)\n    except OSError: pass\nreturn 'tried'",
        0,
        "",
    ),
    ("replaces-itself", "import os\nos.execv('/bin/sleep', ['sleep', '600'])", 502, "policy_crashed"),
    ("closes-everything", "import os\nos.closerange(0, 1000)\nreturn 1", 502, "policy_crashed"),
    (
        "writes-to-everything",
        "import os\nfor fd in range(3, 300):\n    try: os.write(fd, b'D\\x10\\0\\0\\0{\"result\":\"forged')\n    except OSError: pass\nreturn 1",
        502,
        "policy_crashed",
    ),
    (
        "hostile-message",
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        502,
        "policy_failed",
    ),
    ("endless-message", "raise ValueError('x' * 50_000_000)", 502, "policy_failed"),
    (
        "message-that-hangs",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        504,
        "policy_timeout",
    ),
    (
        "breaks-builtins",
        "import builtins, json, sys, os\nbuiltins.len = builtins.open = builtins.print = None\njson.JSONEncoder = json.dumps = None\nsys.stdout = sys.stderr = None\nsys.modules.clear()\nreturn 1",
        0,
        "",
    ),
    (
        "exits-late",
        "import atexit, threading, time\natexit.add(time.sleep, 600)\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn 1",
        200,
        "",
    ),
    (
        "mounts",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0, ctypes.get_errno()",
        502,
        "",
    ),
    (
        "makes-namespaces",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.unshare(0x10000000) == 0, ctypes.get_errno()",
        502,
        "",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hostile_policies_hurt_only_their_own_runs() {
    let app = TestApp::builder().setting("idle_seconds", 1).setting("max_runs", 8).start();
    let (uids, at_rest) = (policy_files(), rest(&app).await);
    let good = app.add("good", "return {'sum': input_data + 1}").await;
    let over = AtomicBool::new(false);
    let good_runs = async {
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            let result =
                tokio::time::timeout(Duration::from_secs(15), app.result(&good, json!(number))).await;
            assert_eq!(result.expect("a good run hangs"), json!({"sum": number + 1}));
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    };
    let hostile_runs = async {
        for chunk in HOSTILE.chunks(6) {
            futures::future::join_all(chunk.iter().map(|case| attack(&app, case))).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (good_runs, ()) = tokio::join!(good_runs, hostile_runs);
    assert!(good_runs > HOSTILE.len(), "only {good_runs} good runs");
    for (name, ..) in HOSTILE {
        for isolation in ["process", "instance"] {
            app.send("DELETE", &format!("/policy/{name}-{isolation}:1.0-test"), "").await;
        }
    }
    app.send("DELETE", &format!("/policy/{good}"), "").await;
    // All of it is gone while the server still runs, not only after it has stopped.
    let rested = rest(&app).await;
    assert_eq!(rested, at_rest, "processes, descriptors and temporary files, after and before");
    assert_eq!(policy_files(), uids, "files of policies in temporary folders of the machine");
}

async fn attack(app: &TestApp, (name, body, status, code): &(&str, &str, u16, &str)) {
    // Whoever is to run out of time does so soon; the others have enough on a busy machine.
    let timeout = if matches!(status, 0 | 504) { 2000 } else { 20_000 };
    for isolation in ["process", "instance"] {
        let limits = json!({"timeout_ms": timeout, "memory_mb": 96, "processes": 8, "isolation": isolation});
        let uri = app.register_limited(&format!("{name}-{isolation}"), &policy_source(body), limits).await;
        let reply = app.run(&uri, json!(0)).await;
        let shown: String = reply.1.to_string().chars().take(2000).collect();
        if *status == 0 {
            assert!(matches!(reply.0, 200 | 502 | 504), "{name}, {isolation}: {shown}");
        } else {
            assert_eq!(reply.0, *status, "{name}, {isolation}: {shown}");
        }
        if !code.is_empty() {
            assert_eq!(refusal(&reply).1, *code, "{name}, {isolation}: {shown}");
        }
        assert!(
            reply.1.to_string().len() < 2 << 20,
            "{name}: the reply has {} bytes",
            reply.1.to_string().len()
        );
    }
}

/// What a server has when it is at rest and its warm policies are gone.
async fn rest(app: &TestApp) -> (usize, Vec<String>, Vec<String>) {
    let warm = app.add("warm-up", "return context.get('x')").await;
    app.result(&warm, json!(0)).await;
    let look = || {
        let runtime = app.data_dir().join("runtime");
        (app.processes(), app.descriptors(), files_below(&runtime))
    };
    app.send("DELETE", &format!("/policy/{warm}"), "").await;
    // Evicted after a second without use; connections of this test's clients close on their own.
    let mut last = look();
    wait_for(|| {
        std::thread::sleep(Duration::from_millis(1500));
        let now = look();
        let settled = now == last && now.0 <= 1;
        last = now;
        settled.then_some(())
    });
    last
}

/// Files in the machine's temporary folders that belong to users as which policies run.
fn policy_files() -> Vec<String> {
    const FIRST_UID: u32 = 1_900_000_000;
    let folders = ["/tmp", "/var/tmp", "/dev/shm"].into_iter().map(Path::new);
    let entries = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let of_policies =
        entries.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() >= FIRST_UID));
    of_policies.map(|entry| entry.path().display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_sees_nothing_of_the_server() {
    const SECRET: &str = "admin:edict-test-secret-token";
    let app = TestApp::builder().setting("auth_tokens", SECRET).start();
    let admin = app.client_with("edict-test-secret-token");
    let body = r#"
import glob, os, sys
found = []
def look(path):
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except OSError:
        return
    if input_data["secret"].encode() in data:
        found.append(path)
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/task/*/environ"):
    look(path)
def reach(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False
def listed(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
return {
    "environment": dict(os.environ), "found": found,
    "reached": [path for path in input_data["paths"] if reach(path)],
    "through proc": [p for p in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd") if reach(p + input_data["paths"][0])],
    "pids": [p for p in listed("/proc") if p.isdigit()],
    "home": [p for p in listed("/root") if not sys.prefix.startswith("/root/" + p)] + listed("/home"), "uid": os.getuid(), "groups": os.getgroups(),
    "descriptors": [os.readlink("/proc/self/fd/" + fd) for fd in listed("/proc/self/fd") if reach("/proc/self/fd/" + fd)],
}"#;
    let record = crate::support::policy("spy", &policy_source(body));
    admin.create_policy(&record, false).await.unwrap();
    // The other policy has been unpacked and is warm.
    let other = crate::support::policy("other", &policy_source("return 1"));
    admin.create_policy(&other, false).await.unwrap();
    let run = |uri: &str, input: Value| {
        let request = json!({"policy_rule_uri": uri, "input_data": input});
        serde_json::from_value::<edict_client::records::ExecutePolicy>(request).unwrap()
    };
    admin.execute_policy("local", &run("other:1.0-test", json!(0)), false).await.unwrap();
    let data = app.data_dir();
    let paths: Vec<String> = std::iter::once(data.clone())
        .chain(files_below(&data).into_iter().map(|file| data.join(file)))
        .map(|path| path.display().to_string())
        .collect();
    assert!(paths.iter().any(|path| path.ends_with("edict.db")), "{paths:?}");
    assert!(paths.iter().any(|path| path.ends_with("function.py")), "{paths:?}");
    let input = json!({"secret": "edict-test-secret-token", "paths": paths});
    let seen = admin.execute_policy("local", &run("spy:1.0-test", input), false).await.unwrap().data;
    assert_eq!(seen["found"], json!([]), "{seen}");
    assert_eq!(seen["reached"], json!([]), "{seen}");
    assert_eq!(seen["through proc"], json!([]), "{seen}");
    assert_eq!(seen["home"], json!([]), "{seen}");
    assert!(seen["pids"].as_array().unwrap().len() <= 8, "it sees the machine's processes: {seen}");
    let environment = seen["environment"].to_string();
    for secret in ["EDICT", "secret", "TOKEN", &data.display().to_string()] {
        assert!(!environment.contains(secret), "{environment}");
    }
    assert!(!seen["descriptors"].to_string().contains("edict.db"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_writes_to_its_temporary_folder_only() {
    let app = TestApp::start();
    let body = r#"
import os, tempfile, sys
written = []
def attempt(path):
    try:
        with open(path, "w") as file:
            file.write("escaped")
        written.append(path)
    except OSError:
        pass
for folder in input_data["folders"] + [os.path.dirname(__file__), sys.prefix, sys.prefix + "/lib", os.path.dirname(os.__file__)]:
    attempt(os.path.join(folder, input_data["name"]))
    try:
        os.mkdir(os.path.join(folder, input_data["name"] + ".d"))
        written.append(folder + " (folder)")
    except OSError:
        pass
attempt(__file__)
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
    own = os.path.exists(file.name)
return {"written": written, "own": own}"#;
    for isolation in ["process", "instance"] {
        let limits = json!({"isolation": isolation});
        let uri = app.register_limited(&format!("writer-{isolation}"), &policy_source(body), limits).await;
        let name = unique();
        let data = app.data_dir();
        let folders = json!([
            "/",
            "/tmp",
            "/var/tmp",
            "/dev",
            "/dev/shm",
            "/etc",
            "/usr",
            "/usr/lib",
            "/home",
            "/root",
            "/run",
            "/proc",
            "/proc/self",
            "..",
            "../..",
            data,
            data.join("runtime"),
            data.join("cache"),
            data.join("cache/bundles"),
        ]);
        let result = app.result(&uri, json!({"name": name, "folders": folders})).await;
        assert_eq!(result, json!({"written": [], "own": true}));
        for folder in ["/tmp", "/var/tmp", "/dev/shm", "/"] {
            assert!(!Path::new(folder).join(&name).exists(), "{folder}/{name} was written");
        }
        assert!(!files_below(&data).iter().any(|file| file.contains(&name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_open_only_to_policies_that_may_use_it() {
    let app = TestApp::start();
    let source = policy_source(
        "import socket\nhost, port = input_data.rsplit(':', 1)\nwith socket.create_connection((host, int(port)), timeout=5): return 'connected'",
    );
    let open = app.register_limited("open", &source, json!({})).await;
    let closed = app.register_limited("closed", &source, json!({"network": false})).await;
    let address = json!(app.url().trim_start_matches("http://"));
    assert_eq!(app.result(&open, address.clone()).await, "connected");
    let reply = app.run(&closed, address).await;
    assert_eq!(refusal(&reply), (502, "policy_failed"), "{}", reply.1);
    assert!(reply.1["error"]["details"]["type"].as_str().unwrap().ends_with("Error"), "{}", reply.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_limited_apart_from_wall_time() {
    let app = TestApp::start();
    for isolation in ["process", "instance"] {
        let limits = json!({"cpu_seconds": 1, "timeout_ms": 20000, "isolation": isolation});
        let source = policy_source("import time\nwhile input_data: pass\ntime.sleep(1.5)\nreturn 1");
        let uri = app.register_limited(&format!("cpu-{isolation}"), &source, limits).await;
        let reply = app.run(&uri, json!(true)).await;
        assert_eq!(refusal(&reply), (502, "policy_limit_exceeded"), "{isolation}: {}", reply.1);
        assert_eq!(reply.1["error"]["details"]["limit"], "cpu", "{isolation}: {}", reply.1);
        assert_eq!(app.result(&uri, json!(false)).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_hangs_or_dies_on_import_holds_up_nobody() {
    let app = TestApp::start();
    let valid = policy_source("return 1");
    let limits = json!({"timeout_ms": 1000, "memory_mb": 96});
    let good = app.add("good", "return 'good'").await;
    for (name, code, expected) in [
        ("hangs", "while True: pass", (504, "policy_timeout")),
        ("segfaults", "import ctypes; ctypes.string_at(0)", (502, "policy_load_failed")),
        ("allocates", "kept = 'x' * (1 << 33)", (502, "policy_limit_exceeded")),
        ("forks", "import os, time\nif os.fork() == 0:\n    time.sleep(600)", (200, "")),
        (
            "kills-all",
            "import os\nfor pid in (os.getppid(), 1, -1):\n    try: os.kill(pid, 9)\n    except OSError: pass",
            (0, ""),
        ),
    ] {
        let uri = app.register_limited(name, &format!("{valid}\n{code}\n"), limits.clone()).await;
        let (reply, ()) = tokio::join!(app.run(&uri, json!(0)), async {
            for _ in 0..20 {
                assert_eq!(app.result(&good, json!(0)).await, "good");
            }
        });
        if expected.0 != 0 {
            assert_eq!(refusal(&reply), expected, "{name}: {}", reply.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_policies_leave_no_descriptor_each() {
    let app = TestApp::builder().setting("idle_seconds", 1).setting("max_warm", 2).start();
    let executor = TestApp::executor("e1", &app).setting("idle_seconds", 1).setting("max_warm", 2).start();
    let before = rest(&app).await;
    let executors_before = executor.descriptors().len();
    for number in 0..24 {
        let uri = app.add(&format!("p{number}"), &format!("return {number}")).await;
        assert_eq!(app.result(&uri, json!(0)).await, number);
        assert_eq!(app.run_on("e1", &uri, json!(0)).await.1["data"], number);
    }
    let after = rest(&app).await;
    // Some are kept, but not one for each policy that was ever run.
    assert!(after.1.len() <= before.1.len() + 12, "{:?}", after.1);
    let settled = wait_for(|| (executor.descriptors().len() <= executors_before + 12).then_some(()));
    assert!(settled.is_some(), "{:?}", executor.descriptors());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_leave_no_descriptor_process_or_file() {
    let app = TestApp::builder().setting("idle_seconds", 1).start();
    let at_rest = rest(&app).await;
    let body = "import os\nopen(os.environ['TMPDIR'] + '/left', 'w').write('x')\nprint('hello')\n\
                if input_data % 10 == 3: raise ValueError\nif input_data % 10 == 4: os._exit(1)\nreturn context.incr('n')";
    let client = crate::support::http();
    for isolation in ["process", "instance"] {
        let uri =
            app.register_limited(isolation, &policy_source(body), json!({"isolation": isolation})).await;
        for round in 0..10 {
            let runs = (0..50).map(|number| {
                let body = json!({"policy_rule_uri": uri, "input_data": round * 50 + number}).to_string();
                client.post(format!("{}/executor/local/execute_policy", app.url())).body(body).send()
            });
            for reply in futures::future::join_all(runs).await {
                assert!(matches!(reply.unwrap().status().as_u16(), 200 | 502));
            }
        }
    }
    drop(client);
    for isolation in ["process", "instance"] {
        app.send("DELETE", &format!("/policy/{isolation}:1.0-test"), "").await;
    }
    assert_eq!(rest(&app).await, at_rest, "processes, descriptors and temporary files, after and before");
}
