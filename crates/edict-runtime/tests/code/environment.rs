//! Environments, installed from the package index that this machine uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edict_runtime::environment::{
    EnvironmentError, EnvironmentOptions, Environments, Python, PythonError, Requirements,
};
use tokio::sync::OnceCell;

/// One `uv` for all tests: bootstrapped once, into a folder that stays while they run.
async fn uv() -> PathBuf {
    static UV: OnceCell<(tempfile::TempDir, PathBuf)> = OnceCell::const_new();
    let made = UV.get_or_init(|| async {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let uv = open(dir.path(), EnvironmentOptions::default()).await.uv().await.unwrap();
        println!("uv: had after {:?}", start.elapsed());
        (dir, uv)
    });
    made.await.1.clone()
}

async fn open(dir: &Path, options: EnvironmentOptions) -> Environments {
    Environments::open(dir, Python::discover(None).await.unwrap(), options).unwrap()
}

async fn with_uv(dir: &Path) -> Environments {
    open(dir, EnvironmentOptions { uv: Some(uv().await), ..Default::default() }).await
}

fn parse(text: &str) -> Requirements {
    Requirements::parse(text).unwrap()
}

/// An executable file with this content.
fn script(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A `uv` that does `also` for `pip install` and notes each such call in `dir/calls`.
async fn noisy_uv(dir: &Path, also: &str) -> PathBuf {
    let (real, calls) = (uv().await, dir.join("calls"));
    let content = format!(
        "#!/bin/sh\nif [ \"$1\" = pip ]; then echo x >> '{}'; {also}; fi\nexec '{}' \"$@\"\n",
        calls.display(),
        real.display()
    );
    script(dir, "uv.sh", &content)
}

fn calls(dir: &Path) -> usize {
    fs::read_to_string(dir.join("calls")).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn python_is_the_interpreter_itself() {
    let python = Python::discover(None).await.unwrap();
    assert!(python.version >= (3, 9, 0));
    let output =
        Command::new(&python.executable).args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), python.executable.to_str().unwrap());
    assert!(python.roots.iter().any(|root| python.executable.starts_with(root)));
    assert_eq!(Python::discover(Some(&python.executable)).await.unwrap(), python);
    let dir = tempfile::tempdir().unwrap();
    let old = r#"echo '{"executable": "/x", "version": [3, 8, 1], "roots": []}'"#;
    for (content, hint) in
        [(format!("#!/bin/sh\n{old}\n"), "3.8.1"), ("#!/bin/sh\necho no\n".into(), "not a working")]
    {
        let path = script(dir.path(), "python3", &content);
        let error = Python::discover(Some(&path)).await.unwrap_err();
        assert!(matches!(error, PythonError::Unusable { .. }) && error.to_string().contains(hint), "{error}");
    }
    assert!(Python::discover(Some(Path::new("/no/such/python"))).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_once_for_all_who_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = EnvironmentOptions { uv: Some(noisy_uv(dir.path(), "true").await), ..Default::default() };
    let store = dir.path().join("environments");
    let environments = open(&store, options.clone()).await;
    let first = parse("logging\nsix==1.16.0\niniconfig>=2,<3\n");
    let second = parse("# the same\nIniConfig <3, >=2\nsix == 1.16.0\n");
    let start = Instant::now();
    // Another process is another `Environments` with the same folder.
    let other = open(&store, options).await;
    let callers = (0..10).map(|i| {
        let environments = if i % 3 == 0 { other.clone() } else { environments.clone() };
        let wanted = if i % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move { environments.ensure(&wanted).await.unwrap() })
    });
    let all: Vec<_> = futures::future::join_all(callers).await.into_iter().map(Result::unwrap).collect();
    println!("environment: first install {:?}", start.elapsed());
    assert!(all.iter().all(|environment| **environment == *all[0]));
    assert_eq!(calls(dir.path()), 1);

    let environment = &all[0];
    let code = "import six, iniconfig, sys; print(six.__version__, sys.prefix, six.__cached__)";
    let output = Command::new(&environment.python).args(["-I", "-c", code]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words[0], Path::new(words[1])), ("1.16.0", environment.path.as_path()));
    // Compiled beforehand, and readable for workers under another user.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(Path::new(words[2])), mode(&environment.path)), (0o644, 0o755));
    assert_eq!(mode(&store.join("home")), 0o700);
    // Nothing is left beside but the lock.
    let temporary =
        |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "tmp");
    assert!(!fs::read_dir(&store).unwrap().any(|entry| temporary(entry.unwrap())));

    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(environments.ensure(&second).await.unwrap(), *environment);
    }
    let again = start.elapsed() / 1000;
    println!("environment: there already {again:?}");
    assert!(again < Duration::from_micros(500), "{again:?}");
    // After a restart it is found; when somebody removed it, it is made anew.
    let restarted = with_uv(&store).await;
    assert_eq!(restarted.ensure(&first).await.unwrap(), *environment);
    assert_eq!(calls(dir.path()), 1);
    fs::remove_dir_all(&environment.path).unwrap();
    environments.ensure(&first).await.unwrap();
    assert_eq!(calls(dir.path()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_installed_is_said_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = EnvironmentOptions { uv: Some(noisy_uv(dir.path(), "true").await), ..Default::default() };
    let store = dir.path().join("environments");
    let environments = open(&store, options).await;
    let wanted = parse("edict-no-such-package-xyz==99");
    for attempt in 1..=2 {
        let results = futures::future::join_all((0..5).map(|_| environments.ensure(&wanted))).await;
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.code(), "requirements_not_installed");
            let text = error.to_string();
            assert!(text.contains("edict-no-such-package-xyz"), "{text}");
            assert!(!text.contains(dir.path().to_str().unwrap()), "{text}");
        }
        assert_eq!(calls(dir.path()), attempt);
    }
    let left: Vec<_> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "home" || name.to_str().unwrap().ends_with(".lock")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_killed_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    // Installs, and then hangs, with a child of its own that hangs too.
    let also = format!(
        "sleep 1000 & echo $! > '{}'; '{}' \"$@\"; wait",
        dir.path().join("pid").display(),
        uv().await.display()
    );
    let hanging = noisy_uv(dir.path(), &also).await;
    let limit = Duration::from_secs(4);
    let options = EnvironmentOptions { uv: Some(hanging), timeout: limit, ..Default::default() };
    let store = dir.path().join("environments");
    let wanted = parse("iniconfig==2.0.0");
    let error = open(&store, options).await.ensure(&wanted).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Timeout { .. }), "{error}");
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");

    // As after `kill -9` of the server: everything is there but the mark.
    let environments = with_uv(&store).await;
    let environment = environments.ensure(&wanted).await.unwrap();
    fs::remove_file(environment.path.join(".complete")).unwrap();
    fs::remove_file(environment.path.join("bin/python")).unwrap();
    let again = with_uv(&store).await.ensure(&wanted).await.unwrap();
    assert!(again.python.exists() && again.path.join(".complete").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_do_not_stop_an_installation() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        EnvironmentOptions { uv: Some(noisy_uv(dir.path(), "sleep 1").await), ..Default::default() };
    let environments = open(&dir.path().join("environments"), options).await;
    let wanted = parse("iniconfig==2.0.0");
    let (task_environments, task_wanted) = (environments.clone(), wanted.clone());
    let caller = tokio::spawn(async move { task_environments.ensure(&task_wanted).await });
    while calls(dir.path()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    caller.abort();
    assert!(caller.await.is_err());
    environments.ensure(&wanted).await.unwrap();
    assert_eq!(calls(dir.path()), 1);
}

/// A wheel of one file, made by hand.
fn wheel(dir: &Path, name: &str, files: &[(&str, &[u8])]) {
    let info = format!("{name}-1.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1\n");
    let tag = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let names = [format!("{info}/METADATA"), format!("{info}/WHEEL"), format!("{info}/RECORD")];
    let mut all = files.to_vec();
    all.extend([(names[0].as_str(), metadata.as_bytes()), (&names[1], tag.as_bytes()), (&names[2], b"")]);
    fs::write(dir.join(format!("{name}-1-py3-none-any.whl")), crate::archives::zip(&all)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_run_nothing_while_they_are_installed() {
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let code = format!("import pathlib; pathlib.Path({ran:?}).touch()\n");
    wheel(dir.path(), "hook", &[("hook.pth", code.as_bytes()), ("hook.py", code.as_bytes())]);
    wheel(dir.path(), "usurper", &[("usurper-1.data/scripts/python", b"#!/bin/sh\n")]);
    let links = format!("export UV_FIND_LINKS='{}'", dir.path().display());
    let options = EnvironmentOptions { uv: Some(noisy_uv(dir.path(), &links).await), ..Default::default() };
    let environments = open(&dir.path().join("environments"), options).await;
    let environment = environments.ensure(&parse("hook==1")).await.unwrap();
    assert!(!ran.exists());
    // The hook is real: the environment's own interpreter obeys it.
    Command::new(&environment.python).args(["-I", "-c", ""]).status().unwrap();
    assert!(ran.exists());
    let error = environments.ensure(&parse("usurper==1")).await.unwrap_err();
    assert!(["requirements_unsafe", "requirements_not_installed"].contains(&error.code()), "{error}");
}

#[tokio::test]
async fn a_uv_that_is_named_must_run() {
    let dir = tempfile::tempdir().unwrap();
    let options = EnvironmentOptions { uv: Some("/no/such/uv".into()), ..Default::default() };
    let error = open(dir.path(), options).await.ensure(&parse("six")).await.unwrap_err();
    assert_eq!(error.code(), "installer_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_is_bootstrapped_once() {
    let dir = tempfile::tempdir().unwrap();
    let environments = [
        open(dir.path(), EnvironmentOptions::default()).await,
        open(dir.path(), EnvironmentOptions::default()).await,
    ];
    let (first, second) = tokio::join!(environments[0].uv(), environments[1].uv());
    let uv: Arc<PathBuf> = Arc::new(first.unwrap());
    assert_eq!(*uv, second.unwrap());
    assert!(Command::new(&*uv).arg("--version").status().unwrap().success());
}
