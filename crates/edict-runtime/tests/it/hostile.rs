//! Policies that mean harm. Each gets the right error; meanwhile and afterwards a well-behaved run of the same
//! and of another policy succeeds; nothing is left behind.

use std::time::Duration;

use edict_runtime::{Fault, Isolation, Limit, Limits, Policy};
use serde_json::{Value, json};

use crate::support::{Bed, WELL_BEHAVED, policy_of, value};

/// What a policy that does `body` when asked to gives.
type Given = Result<Value, Fault>;

async fn attack(namespaces: bool, body: &str, change: impl Fn(&mut Limits)) -> Given {
    let bed = Bed::with(|config| {
        config.namespaces = namespaces;
        config.output_limit = 1 << 20;
    })
    .await;
    let body = format!("if input_data == 'be good': return 'good'\n{}", body.trim());
    let mut bad = bed.policy("bad", &policy_of(&body));
    change(&mut bad.limits);
    let good = bed.policy("good", WELL_BEHAVED);
    assert_eq!(bed.value(&bad, json!("be good")).await, "good");
    let (given, same, other) = tokio::join!(
        bed.run(&bad, json!("attack")),
        bed.value(&bad, json!("be good")),
        bed.value(&good, json!([1, 2, 3]))
    );
    assert_eq!((same, &other["sum"]), (json!("good"), &json!(6)));
    assert_eq!(bed.value(&bad, json!("be good")).await, "good");
    bed.close().await;
    given.map(|outcome| value(&outcome)).map_err(|error| error.fault)
}

fn second(limits: &mut Limits) {
    limits.timeout = Duration::from_secs(1);
}

fn plain(_: &mut Limits) {}

fn crashed(given: Given) -> String {
    match given {
        Err(Fault::Crashed { how }) => how,
        other => panic!("{other:?}"),
    }
}

fn failed(given: Given) -> String {
    match given {
        Err(Fault::Failed { kind, .. }) => kind,
        other => panic!("{other:?}"),
    }
}

fn limit(given: Given) -> Limit {
    match given {
        Err(Fault::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    }
}

fn not_json(given: Given) -> String {
    match given {
        Err(Fault::OutputNotJson { place }) => place,
        other => panic!("{other:?}"),
    }
}

/// Each attack with namespaces and without.
macro_rules! attacks {
    ($($name:ident($change:expr) $body:literal => |$given:ident| $check:expr;)*) => {
        mod with_namespaces {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let $given = attack(true, $body, $change).await;
                $check
            })*
        }
        mod without_namespaces {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let $given = attack(false, $body, $change).await;
                $check
            })*
        }
    };
}

attacks! {
    loops(second) "while True: pass" => |given| assert_eq!(limit(given), Limit::Timeout(Duration::from_secs(1)));
    loops_in_c(second) "return 10 ** 10 ** 10" => |given| assert_eq!(limit(given), Limit::Timeout(Duration::from_secs(1)));
    burns_cpu(|limits: &mut Limits| limits.cpu_seconds = Some(1)) "while True: pass" => |given| assert_eq!(limit(given), Limit::Cpu(1));
    allocates(plain) "
x = []
while True: x.append(bytearray(1 << 20))" => |given| assert_eq!(limit(given), Limit::Memory(512));
    allocates_small(|limits: &mut Limits| limits.memory_mb = 64) "
x = []
while True: x.append([len(x)])" => |given| assert_eq!(limit(given), Limit::Memory(64));
    maps_shared_memory(|limits: &mut Limits| limits.memory_mb = 64) "
import mmap
x = [mmap.mmap(-1, 64 << 20) for _ in range(1000)]" => |given| assert!(matches!(given, Err(Fault::Failed { .. } | Fault::Limit(_))), "{given:?}");
    forks_without_end(second) "
import os
while True:
    try: os.fork()
    except OSError: pass" => |given| assert!(matches!(given, Err(Fault::Limit(Limit::Timeout(_)) | Fault::Crashed { .. })), "{given:?}");
    starts_threads_without_end(second) "
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError: raise" => |given| assert!(matches!(given, Err(Fault::Failed { .. } | Fault::Limit(_))), "{given:?}");
    prints_without_end(plain) "while True: print('x' * 1000)" => |given| assert_eq!(limit(given), Limit::Output(1 << 20));
    logs_without_end(plain) "
import logging
while True: logging.warning('x' * 1000)" => |given| assert_eq!(limit(given), Limit::Output(1 << 20));
    returns_nan(plain) "return {'a': [1, float('nan')]}" => |given| assert_eq!(not_json(given), "$.a[1] is nan");
    returns_an_object(plain) "return [object()]" => |given| assert_eq!(not_json(given), "$[0] is of type object");
    returns_a_set(plain) "return {'x': {1}}" => |given| assert_eq!(not_json(given), "$.x is of type set");
    returns_half_a_character(plain) "return {'x': chr(0xd800)}" => |given| assert!(not_json(given).starts_with("$.x is text"));
    returns_a_circle(plain) "
x = {}
x['me'] = [x]
return x" => |given| assert_eq!(not_json(given), "$.me[0] holds itself");
    returns_endless_depth(plain) "
x = []
for _ in range(100000): x = [x]
return x" => |given| assert!(not_json(given).ends_with("nested too deeply"));
    returns_200_mb(plain) "return 'x' * (200 << 20)" => |given| assert_eq!(limit(given), Limit::Result(16 << 20));
    exits(plain) "
import os
os._exit(3)" => |given| assert_eq!(crashed(given), "exited with code 3");
    raises_system_exit(plain) "
import sys
sys.exit(4)" => |given| assert_eq!(failed(given), "SystemExit");
    crashes(plain) "
import ctypes
ctypes.string_at(0)" => |given| assert_eq!(crashed(given), "was killed by SIGSEGV");
    aborts(plain) "
import os
os.abort()" => |given| assert!(crashed(given).starts_with("was killed by SIG"));
    recurses(plain) "
def f(): return f()
return f()" => |given| assert_eq!(failed(given), "RecursionError");
    kills_its_parent(plain) "
import os
os.kill(os.getppid() or 1, 9)
return 'tried'" => |given| assert!(matches!(&given, Ok(_) | Err(Fault::Failed { .. })), "{given:?}");
    kills_everyone(plain) "
import os
os.kill(-1, 9)
return 'tried'" => |given| assert!(matches!(&given, Ok(_) | Err(Fault::Failed { .. })), "{given:?}");
    kills_its_group(plain) "
import os
os.kill(0, 9)
return 'tried'" => |given| assert!(matches!(&given, Ok(_) | Err(Fault::Failed { .. } | Fault::Crashed { .. })), "{given:?}");
    kills_neighbours(plain) "
import os, signal
killed = []
for pid in range(2, 100000):
    try:
        if pid != os.getpid(): os.kill(pid, 9); killed.append(pid)
    except OSError: pass
return killed" => |given| assert_eq!(given, Ok(json!([])));
    stops_itself(second) "
import os
os.kill(os.getpid(), 19)
while True: pass" => |given| assert_eq!(limit(given), Limit::Timeout(Duration::from_secs(1)));
    closes_everything(plain) "
import os
os.closerange(0, 256)
import time
time.sleep(30)" => |given| assert!(crashed(given).starts_with("closed its connection"));
    writes_garbage(plain) "
import os
for fd in range(3, 64):
    try: os.write(fd, b'garbage' * 10)
    except OSError: pass
return 1" => |given| assert!(crashed(given).contains("its own connection"));
    forges_frames(plain) "
import os
for fd in range(3, 64):
    for frame in (b'H9', b'E1 0 0', b'Z\\x01\\x00\\x00\\x00{', b'D\\xff\\xff\\xff\\xff'):
        try: os.write(fd, frame)
        except OSError: pass
return 1" => |given| assert!(crashed(given).contains("its own connection"));
    leaves_a_daemon(plain) "
import os, time
try: pid = os.fork()
except OSError: return 'no process'
if pid == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        time.sleep(600)
    os._exit(0)
os.waitpid(pid, 0)
return 'left'" => |given| assert!(given.is_ok(), "{given:?}");
    writes_outside(plain) "
import os
wrote = []
for folder in ('/', '/tmp', '/etc', '/usr', '/policy', '/dev', '/root', '/home', '/var/tmp', '/dev/shm', os.path.dirname(__file__), os.path.dirname(os.environ['TMPDIR'])):
    try:
        open(folder + '/edict-was-here', 'w').close()
        wrote.append(folder)
    except OSError: pass
with open(os.environ['TMPDIR'] + '/mine', 'w') as file: file.write('x')
return wrote" => |given| assert_eq!(given, Ok(json!([])));
    reads_what_is_not_its_own(plain) "
import os
read = []
paths = ['/etc/shadow', '/root/.bashrc', '/root/.profile', '/proc/1/mem', '/proc/1/environ']
paths += ['/proc/%d/environ' % pid for pid in range(1, 400) if pid != os.getpid()]
for path in paths:
    try:
        with open(path, 'rb') as file: content = file.read(100000)
        if b'CARGO' in content or not path.startswith('/proc'): read.append(path)
    except OSError: pass
return read + [key for key in os.environ if key not in ('PATH', 'LANG', 'HOME', 'TMPDIR', 'LC_CTYPE')]" => |given| assert_eq!(given, Ok(json!([])));
    fills_its_folder(plain) "
import os
os.chdir(os.environ['TMPDIR'])
with open('big', 'wb') as file:
    while True: file.write(b'x' * (1 << 20))" => |given| assert_eq!(failed(given), "OSError");
    leaves_a_maze(plain) "
import os
os.chdir(os.environ['TMPDIR'])
for _ in range(1500):
    os.mkdir('d'); os.chdir('d')
    open('f', 'w').close()
os.chmod('.', 0)
os.chmod(os.environ['TMPDIR'], 0)
return 1" => |given| assert_eq!(given, Ok(json!(1)));
    changes_namespaces(plain) "
import ctypes, os
libc = ctypes.CDLL(None)
done = []
for flags in (0x20000, 0x40000000, 0x10000000): 
    if libc.unshare(flags) == 0: done.append(flags)
if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0: done.append('mount')
if libc.ptrace(0, 0, 0, 0) == 0: done.append('ptrace')
if libc.prctl(1, 0, 0, 0, 0) == 0: done.append('pdeathsig')
if libc.syscall(435, None, 0) != -1: done.append('clone3')
return done" => |given| assert_eq!(given, Ok(json!([])));
}

async fn import(source: &str, namespaces: bool) -> Given {
    let bed = Bed::with(|config| config.namespaces = namespaces).await;
    let mut bad = bed.policy("bad", &format!("{source}\n{WELL_BEHAVED}"));
    bad.limits.timeout = Duration::from_secs(2);
    let good = bed.policy("good", WELL_BEHAVED);
    let (given, other) = tokio::join!(bed.run(&bad, json!([1])), bed.value(&good, json!([4])));
    assert_eq!(other["sum"], 4);
    bed.close().await;
    given.map(|outcome| value(&outcome)).map_err(|error| error.fault)
}

fn load_kind(given: Given) -> String {
    match given {
        Err(Fault::Load { kind, .. }) => kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_go_wrong() {
    for namespaces in [true, false] {
        assert_eq!(
            limit(import("while True: pass", namespaces).await),
            Limit::Timeout(Duration::from_secs(2))
        );
        assert_eq!(load_kind(import("import sys; sys.exit(1)", namespaces).await), "SystemExit");
        assert_eq!(load_kind(import("import os; os._exit(1)", namespaces).await), "Exited");
        assert_eq!(load_kind(import("import no_such_module", namespaces).await), "ModuleNotFoundError");
        assert_eq!(load_kind(import("def broken(:", namespaces).await), "SyntaxError");
        assert_eq!(limit(import("x = bytearray(1 << 40)", namespaces).await), Limit::Memory(512));
        assert_eq!(load_kind(import("import os; os.closerange(3, 99)", namespaces).await), "Exited");
        let closed_later = "import os, threading; threading.Timer(0, lambda: os.closerange(3, 99)).start()";
        assert!(import(closed_later, namespaces).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_leaves_a_process_behind() {
    let source = "import os, time\nif os.fork() == 0:\n    os.closerange(0, 99)\n    time.sleep(600)";
    assert_eq!(import(source, true).await.unwrap()["sum"], 1);
    assert_eq!(import(source, false).await.unwrap()["sum"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn network_can_be_denied() {
    let bed = Bed::new().await;
    let source = policy_of(
        "import _socket\ntry: _socket.socket(_socket.AF_INET)\nexcept OSError as error: return error.errno\nreturn 0",
    );
    let open = bed.policy("open", &source);
    let mut closed = Policy { digest: "closed".to_owned(), ..open.clone() };
    closed.limits.network = false;
    assert_eq!(bed.value(&open, json!(0)).await, 0);
    assert_eq!(bed.value(&closed, json!(0)).await, 1);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_worker_that_dies_is_replaced() {
    let bed = Bed::new().await;
    let mut policy =
        bed.policy("bad", &policy_of("import os\nif input_data: os._exit(input_data)\nreturn 'ok'"));
    policy.isolation = Isolation::Instance;
    for _ in 0..5 {
        assert_eq!(
            bed.fault(&policy, json!(7)).await,
            Fault::Crashed { how: "exited with code 7".to_owned() }
        );
        assert_eq!(bed.value(&policy, json!(0)).await, "ok");
    }
    bed.close().await;
}
