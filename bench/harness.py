"""What the measurements share: a server of their own, clients that cost little, and a look at processes."""

import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
SAMPLE = ROOT / "policies" / "ip_allowlist"
PATIENCE = 60


def binary():
    """The release build; the environment's EDICT names another."""
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return os.environ.get("EDICT") or str(Path(target) / "release" / "edict")


def environment():
    """This environment without settings of the developer's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EDICT_")}


class Server:
    """`edict serve` in a temporary folder, on free ports; stopped, and its folder removed, at the end of `with`."""

    def __init__(self, token=None, **settings):
        self.dir, self.token = Path(tempfile.mkdtemp(prefix="edict-bench-")), token
        self.settings = {"system_port": 0, "engine_port": 0, "actions_port": 0, "log_level": "warn", **settings}
        self.start()

    def start(self):
        """Starts it and waits until it serves; `ready_ms` is how long that took."""
        ready = self.dir / "ready.json"
        ready.unlink(missing_ok=True)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        command = [binary(), "serve", f"--ready-file={ready}", f"--data-dir={self.dir / 'data'}", *flags]
        with open(self.dir / "log", "ab") as log:
            started = time.perf_counter()
            self.process = subprocess.Popen(
                command, cwd=self.dir, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while not ready.exists():
            if self.process.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise RuntimeError("the server does not start:\n" + (self.dir / "log").read_text())
            time.sleep(0.0005)
        self.ready_ms = (time.perf_counter() - started) * 1e3
        self.url = json.loads(ready.read_text())["system"]
        host, port = self.url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def environment(self):
        """With what the server wants of administrators, and what the command line presents."""
        tokens = {"EDICT_AUTH_TOKENS": f"admin:{self.token}", "EDICT_TOKEN": self.token} if self.token else {}
        return {**environment(), **tokens}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.dir, ignore_errors=True)

    def edict(self, *arguments):
        """Runs a verb of the command line against this server and returns what it prints as JSON."""
        command = [binary(), *arguments, "--url", self.url, "--output", "json"]
        done = subprocess.run(command, cwd=self.dir, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments} failed: {done.stderr}")
        return json.loads(done.stdout)

    def pids(self):
        """The server's process and all its descendants."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:
                        parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(entry))
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return found

    def rss_mib(self):
        """Resident memory of the server's own process."""
        return field_kib(self.process.pid, "status", "VmRSS") / 1024

    def private_mib(self):
        """Memory that only one process has, summed over all."""
        return (
            sum(
                field_kib(pid, "smaps_rollup", name)
                for pid in self.pids()
                for name in ("Private_Clean", "Private_Dirty")
            )
            / 1024
        )

    def pss_mib(self):
        """Memory of all processes, what they share counted once."""
        return sum(field_kib(pid, "smaps_rollup", "Pss") for pid in self.pids()) / 1024

    def descriptors(self):
        """Open descriptors of the server's own process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def files(self):
        """Files and folders in the server's folder."""
        return sum(len(folders) + len(names) for _, folders, names in os.walk(self.dir))


def field_kib(pid, file, name):
    """A line such as `VmRSS:  1234 kB`; 0 when the process has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/{file}") as lines:
            for line in lines:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def encode(method, path, body=None, content_type="application/json", token=None):
    """A request as it goes over the wire."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    body = body or b""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\n"
    head += f"authorization: Bearer {token}\r\n" if token else ""
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


class Connection:
    """One connection that is kept alive. It reads no more of a reply than it must: what it costs is measured too."""

    def __init__(self, server):
        self.socket = socket.create_connection(server.address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.token = b"", getattr(server, "token", None)

    def send(self, request):
        self.socket.sendall(request)

    def receive(self):
        """The next reply: status and body."""
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if end:
                size = int(head.lower().split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
                if len(rest) >= size:
                    self.buffer = rest[size:]
                    return int(head[9:12]), rest[:size]
            more = self.socket.recv(1 << 20)
            if not more:
                raise RuntimeError("the server closed the connection")
            self.buffer += more

    def ask(self, method, path, body=None, content_type="application/json"):
        """Sends a request and returns the reply's JSON.

        Raises RuntimeError unless it succeeded.
        """
        self.send(encode(method, path, body, content_type, self.token))
        status, body = self.receive()
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {body[:2000].decode(errors='replace')}")
        return json.loads(body)

    def time(self, request):
        """Seconds from sending a request to its reply, and the body."""
        started = time.perf_counter()
        self.send(request)
        status, body = self.receive()
        elapsed = time.perf_counter() - started
        if status != 200:
            raise RuntimeError(f"{status} {body[:2000].decode(errors='replace')}")
        return elapsed, body


def p50_ms(server, request, count):
    """Median and 99th percentile of `count` requests, one after the other."""
    connection = Connection(server)
    for _ in range(max(10, count // 10)):
        connection.time(request)
    times = [connection.time(request)[0] for _ in range(count)]
    return statistics.median(times) * 1e3, percentile(times, 0.99) * 1e3


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def flood(server, requests, connections=16):
    """Sends `requests` (an iterator) over so many connections, a new one on each as soon as a reply has come.

    Returns a dict: `seconds`, `count`, `errors`, `p50_ms`, `p99_ms`.
    """
    requests, poll, times, errors = iter(requests), select.epoll(), [], 0
    open_connections, sent = {}, {}

    def send(number):
        request = next(requests, None)
        if request is None:
            poll.unregister(number)
            open_connections.pop(number)
            return
        sent[number] = time.perf_counter()
        open_connections[number].send(request)

    started = time.perf_counter()
    for _ in range(connections):
        connection = Connection(server)
        number = connection.socket.fileno()
        open_connections[number] = connection
        poll.register(number, select.EPOLLIN)
        send(number)
    kept = dict(open_connections)  # sockets stay open until the end, so that numbers stay unique
    while open_connections:
        for number, _ in poll.poll(PATIENCE):
            status, _ = open_connections[number].receive()
            times.append(time.perf_counter() - sent[number])
            errors += status != 200
            send(number)
    seconds = time.perf_counter() - started
    for connection in kept.values():
        connection.socket.close()
    return {
        "seconds": seconds,
        "count": len(times),
        "errors": errors,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": percentile(times, 0.99) * 1e3,
    }


def load(server, path, body, connections, seconds):
    """The same request over so many connections for so long, by `wrk` if it is installed, else by `flood`.

    Returns a dict: `rate`, `count`, `errors`, `p50_ms`, `p99_ms`.
    """
    if not shutil.which("wrk"):
        end, request = time.perf_counter() + seconds, encode("POST", path, body)
        done = flood(server, iter(lambda: request if time.perf_counter() < end else None, None), connections)
        return {**done, "rate": done["count"] / done["seconds"]}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua"), server.url + path]
    out = subprocess.run(
        command, env={**os.environ, "BODY": json.dumps(body)}, capture_output=True, text=True, check=True
    ).stdout
    done = json.loads(out.strip().splitlines()[-1])
    return {**done, "rate": done["count"] / done["seconds"]}


def publish_sample(connection, server, name, **changes):
    """Pushes the sample policy as its author would, under another name and with changed fields; returns its URI."""
    folder = server.dir / name
    shutil.copytree(SAMPLE, folder)
    card = folder / "policy.yaml"
    card.write_text(card.read_text().replace("name: ip_allowlist", f"name: {name}", 1))
    uri = server.edict("policy", "push", str(folder))["policy_rule_uri"]
    if changes:
        connection.ask("PUT", f"/policy/{uri}", {"$set": changes})
    return uri


def unused_cpu(seconds=1.0):
    """Cores that nothing else uses right now: how quiet the machine is."""
    idle = _idle()
    time.sleep(seconds)
    return round((_idle() - idle) / os.sysconf("SC_CLK_TCK") / seconds, 2)


def _idle():
    with open("/proc/stat") as stat:
        return sum(int(ticks) for ticks in stat.readline().split()[4:6])


def rounded(value):
    """Figures with four significant digits, in dicts and lists too."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def report(bench, **figures):
    """Prints the one line."""
    print(json.dumps({"bench": bench, **rounded(figures)}), flush=True)
