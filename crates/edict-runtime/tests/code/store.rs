//! The cache of unpacked bundles.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use edict_runtime::bundle::{BundleStore, CodeDir, Evicted, Format, Limits, StoreError, digest};
use proptest::prelude::*;
use tokio::sync::Barrier;

use crate::archives::*;

const LIMITS: Limits = Limits { packed: 1 << 20, unpacked: 1 << 20, files: 100 };

fn open(dir: &Path) -> BundleStore {
    BundleStore::open(dir, LIMITS).unwrap()
}

async fn put(store: &BundleStore, bytes: &Bytes) -> Result<Arc<CodeDir>, StoreError> {
    store.ensure(&digest(bytes), async { Ok::<_, std::io::Error>(bytes.clone()) }).await
}

async fn cached(store: &BundleStore, bytes: &Bytes) -> Result<Arc<CodeDir>, StoreError> {
    store.ensure(&digest(bytes), async { Err::<Bytes, _>("not to be fetched") }).await
}

/// All paths below a folder.
fn listing(dir: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        paths.insert(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            paths.extend(listing(&entry.path()));
        }
    }
    paths
}

#[tokio::test]
async fn unpacks_once_and_finds_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let files: &[(&str, &[u8])] = &[
        ("readme.md", b"hi"),
        ("code/function.py", POLICY.as_bytes()),
        ("code/requirements.txt", b"six"),
        ("code/pkg/__init__.py", b""),
        ("code/__pycache__/function.cpython-311.pyc", b"evil"),
    ];
    for format in ARCHIVES {
        let bytes = archive(format, files);
        let code = put(&open(dir.path()), &bytes).await.unwrap();
        assert_eq!(fs::read_to_string(code.path.join("function.py")).unwrap(), POLICY);
        assert_eq!(code.requirements.as_ref().unwrap().lines, ["six"]);
        assert!(code.path.join("pkg/__init__.py").exists() && !code.path.join("__pycache__").exists());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&code.path.join("function.py")), 0o444);
        assert_eq!((mode(&code.path), mode(code.path.parent().unwrap())), (0o755, 0o755));
        // A new store, as after a restart, and the same one again.
        let store = open(dir.path());
        let again = cached(&store, &bytes).await.unwrap();
        assert_eq!((&again.path, &again.requirements), (&code.path, &code.requirements));
        assert!(Arc::ptr_eq(&again, &cached(&store, &bytes).await.unwrap()));
    }
    let source = Bytes::from(POLICY);
    let code = put(&open(dir.path()), &source).await.unwrap();
    assert_eq!(fs::read_to_string(code.path.join("function.py")).unwrap(), POLICY);
    let flat = archive(Format::Zip, &[("function.py", b"x = 1")]);
    let code = put(&open(dir.path()), &flat).await.unwrap();
    assert_eq!(code.path, dir.path().canonicalize().unwrap().join(digest(&flat)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_fetch_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, bytes, fetches) = (open(dir.path()), policy(Format::TarXz), Arc::new(AtomicUsize::new(0)));
    let barrier = Arc::new(Barrier::new(50));
    let callers = (0..50).map(|_| {
        let (store, bytes, fetches, barrier) =
            (store.clone(), bytes.clone(), fetches.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            let fetch = async {
                fetches.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(bytes.clone())
            };
            store.ensure(&digest(&bytes), fetch).await.unwrap()
        })
    });
    let codes = futures::future::join_all(callers).await;
    let first = codes[0].as_ref().unwrap();
    assert!(codes.iter().all(|code| Arc::ptr_eq(code.as_ref().unwrap(), first)));
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn callers_that_wait_share_a_failure_and_later_ones_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, bytes, fetches) = (open(dir.path()), policy(Format::Zip), AtomicUsize::new(0));
    let name = digest(&bytes);
    let failing = || {
        store.ensure(&name, async {
            fetches.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err::<Bytes, _>("the host is down")
        })
    };
    for result in futures::future::join_all((0..10).map(|_| failing())).await {
        assert!(result.unwrap_err().to_string().contains("the host is down"));
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    assert!(put(&store, &bytes).await.is_ok());
}

#[tokio::test]
async fn two_processes_may_unpack_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, stores) = (policy(Format::Zip), [open(dir.path()), open(dir.path())]);
    let (first, second) = tokio::join!(put(&stores[0], &bytes), put(&stores[1], &bytes));
    assert_eq!(first.unwrap().path, second.unwrap().path);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn other_content_than_registered_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (expected, bytes) = (digest(b"something else"), policy(Format::Zip));
    let error = store.ensure(&expected, async { Ok::<_, std::io::Error>(bytes) }).await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    for name in ["", "..", "../x", &"A".repeat(64), &"a".repeat(63)] {
        let error = store.ensure(name, async { Ok::<_, std::io::Error>(Bytes::new()) }).await.unwrap_err();
        assert!(matches!(error, StoreError::BadDigest(_)), "{error}");
    }
    let broken = Bytes::from_static(b"PK\x03\x04");
    assert!(matches!(put(&store, &broken).await, Err(StoreError::Bundle(_))));
    assert!(listing(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(4000);
    let names: Vec<String> = (0..90).map(|i| format!("code/{i}.bin")).collect();
    let mut files: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), content.as_slice())).collect();
    files.push(("code/function.py", POLICY.as_bytes()));
    let bytes = zip(&files);
    for delay in [0, 1, 3, 10, 30] {
        let store = open(dir.path());
        let (task_store, task_bytes) = (store.clone(), bytes.clone());
        let task = tokio::spawn(async move { put(&task_store, &task_bytes).await });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        task.abort();
        let _ = task.await;
        let code = put(&store, &bytes).await.unwrap();
        assert_eq!(fs::read_dir(&code.path).unwrap().count(), 91);
        drop(code);
        store.evict(0).await.unwrap();
    }
    // A waiting caller takes over when the one that fetches goes away. Other code: what was given up above may still be
    // arriving, and would be had without a fetch.
    let bytes = zip(&[("code/function.py", POLICY.as_bytes())]);
    let store = open(dir.path());
    let (name, started) = (digest(&bytes), Arc::new(tokio::sync::Notify::new()));
    let (task_store, task_name, task_started) = (store.clone(), name.clone(), started.clone());
    let stuck = tokio::spawn(async move {
        let fetch = async {
            task_started.notify_one();
            std::future::pending::<Result<Bytes, std::io::Error>>().await
        };
        task_store.ensure(&task_name, fetch).await.map(|_| ())
    });
    started.notified().await;
    let mut waiting = Box::pin(put(&store, &bytes));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    stuck.abort();
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn what_a_killed_process_left_is_neither_used_nor_kept() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(".tmp-abc");
    fs::create_dir_all(left.join("code")).unwrap();
    fs::write(left.join("code/function.py"), "half").unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(&left).unwrap().set_modified(old).unwrap();
    let bytes = policy(Format::Zip);
    fs::create_dir_all(dir.path().join(digest(&bytes))).unwrap();
    let store = open(dir.path());
    assert!(!left.exists());
    assert!(put(&store, &bytes).await.unwrap().path.join("function.py").exists());
}

#[tokio::test]
async fn eviction_takes_the_oldest_and_never_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()), open(dir.path()));
    let sources: Vec<Bytes> = (0..4).map(|i| Bytes::from(format!("x = {i}{}\n", "#".repeat(95)))).collect();
    let mut held = Vec::new();
    for source in &sources {
        held.push(put(&store, source).await.unwrap());
    }
    assert_eq!(store.evict(0).await.unwrap(), Evicted::default());
    let size = sources[0].len() as u64;
    // The first is in use in another process; the last was used last.
    let elsewhere = cached(&other, &sources[0]).await.unwrap();
    drop(held);
    for (age, source) in sources.iter().rev().enumerate() {
        let time = SystemTime::now() - Duration::from_secs(100 * (age as u64 + 1));
        fs::File::open(dir.path().join(digest(source))).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(store.evict(2 * size).await.unwrap(), Evicted { bundles: 2, bytes: 2 * size });
    assert!(cached(&store, &sources[0]).await.is_ok() && cached(&store, &sources[3]).await.is_ok());
    assert!(cached(&store, &sources[1]).await.is_err());
    drop(elsewhere);
    assert_eq!(store.evict(0).await.unwrap().bundles, 2);
    assert!(listing(dir.path()).is_empty());
}

#[tokio::test]
async fn what_is_there_is_had_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, bytes) = (open(dir.path()), policy(Format::Zip));
    let start = Instant::now();
    let held = put(&store, &bytes).await.unwrap();
    let first = start.elapsed();
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(Arc::ptr_eq(&cached(&store, &bytes).await.unwrap(), &held));
    }
    let again = start.elapsed() / 1000;
    println!("bundle: first {first:?}, held {again:?}");
    assert!(again < Duration::from_micros(500), "{again:?}");
}

#[test]
fn a_folder_outside_a_store_can_be_run() {
    let dir = tempfile::tempdir().unwrap();
    assert!(CodeDir::open(dir.path()).is_err());
    fs::write(dir.path().join("function.py"), POLICY).unwrap();
    fs::write(dir.path().join("requirements.txt"), "logging\nsix\n").unwrap();
    assert_eq!(CodeDir::open(dir.path()).unwrap().requirements.as_ref().unwrap().lines, ["six"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever becomes of an archive on its way: nothing is written beside the bundle's own folder.
    #[test]
    fn damaged_archives_write_nothing_outside(
        kind in 0..3_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let files: &[(&str, &[u8])] =
            &[("code/", b""), ("code/function.py", POLICY.as_bytes()), ("code/xx/yy.py", b"x")];
        // The tar archives are damaged before they are packed, so that the damage gets past the checksum.
        let mut bytes = if kind == 0 { zip(files).to_vec() } else { tar(files) };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let bytes = match kind { 0 => bytes.into(), 1 => gz(&bytes), _ => xz(&bytes) };
        let dir = tempfile::tempdir().unwrap();
        let store_dir = dir.path().join("a/store");
        let store = open(&store_dir);
        let before = listing(dir.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(put(&store, &bytes));
        let own = store_dir.canonicalize().unwrap().join(digest(&bytes)).display().to_string();
        let after: BTreeSet<String> = listing(dir.path()).into_iter().filter(|path| !path.starts_with(&own)).collect();
        prop_assert_eq!(before, after);
        if let Ok(code) = result {
            prop_assert!(code.path.join("function.py").is_file());
        }
    }
}
