"""One policy's worker: a template that has imported the policy and forks a child for each run.

Started by the launcher inside the sandbox, with the control socket as file descriptor 3. Standard library
only: it runs on whatever Python a policy's environment has. Nothing here protects one policy from another:
a hostile module shares this process and can change all of it. What protects is the sandbox that the
launcher has put around it, and the host, which believes nothing that comes from here.

Control socket (one packet per message, text):
  host -> template   the configuration (JSON, once), then words: F<n> fork child n, D<n> child n is done with,
                     Q<n> end child n and say how it ended
  template -> host   L<json> the policy is loaded, X<json> it cannot be, E<n> <status> <cpu ms> how child n ended,
                     N<n> <errno> child n could not be made
  child -> host      H<n>, with three descriptors: its own socket, its stdout, its stderr

A child's own socket carries frames: kind (1 byte), length (4 bytes, little-endian), JSON.
  host -> child      R run this, C the answer to a context operation
  child -> host      D done, E failed, X a context operation, L a log record

A function's replica is a template that never forks. It has a second socket for calls, so that they can be sent
ahead while the policy, or a thread of it, talks to its context on the first:
  host -> replica    B make the instance, R call it, M manage it
  replica -> host    D done, E failed; one for each, in order
"""

import gc
import os
import sys

import _socket
import _thread
import ctypes
import json
import resource
from _collections_abc import MutableMapping

CONTROL = 3
MESSAGE_LIMIT = 8 << 10
FRAMES_LIMIT = 24  # frames kept from each end of a long traceback
PR_SET_PDEATHSIG, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 22, 2
CLONE_NEWUSER, CLONE_NEWPID, SIGCHLD, SIGKILL = 0x10000000, 0x20000000, 17, 9

# PyDLL keeps the GIL: a clone between releasing and taking it again would copy a GIL without an owner.
LIBC = ctypes.PyDLL(None, use_errno=True)
# Looked up once: every child would do it again, on pages that it has to copy for that.
BEFORE_FORK, AFTER_FORK_PARENT, AFTER_FORK_CHILD = (
    getattr(ctypes.pythonapi, "PyOS_" + name) for name in ("BeforeFork", "AfterFork_Parent", "AfterFork_Child")
)
SYSCALL, CAPSET = LIBC.syscall, LIBC.capset
# Version 3 for the caller itself; no capabilities.
CAPABILITIES = ctypes.byref(ctypes.c_uint64(0x20080522)), ctypes.byref((ctypes.c_uint32 * 6)())
encode_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
decode_text = json.JSONDecoder().decode
scan_text = json.JSONDecoder().scan_once  # for text that is known to be one JSON value and nothing else


class NotJson(Exception):
    """The value that a policy returned cannot be written as JSON."""


class Channel:
    """A child's own socket to the host."""

    def __init__(self, sock):
        self.sock = sock
        self.lock = _thread.allocate_lock()

    def send(self, kind, payload):
        self.sock.sendall(kind + len(payload).to_bytes(4, "little") + payload)

    def receive(self):
        """The next frame's text, or None when the host is gone."""
        data = self.sock.recv(65536)
        while 0 < len(data) < 5:
            more = self.sock.recv(65536)
            if not more:
                return None
            data += more
        if not data:
            return None
        size = 5 + int.from_bytes(data[1:5], "little")
        if len(data) < size:
            data = bytearray(data)
            while len(data) < size:
                more = self.sock.recv(min(size - len(data), 1 << 20))
                if not more:
                    return None
                data += more
        return data[5:].decode()

    def ask(self, operation):
        """One context operation: a question and its answer."""
        payload = encode(operation).encode()
        with self.lock:
            self.send(b"X", payload)
            answer = self.receive()
        if answer is None:
            os._exit(0)
        answer = decode_text(answer)
        if "error" in answer:
            raise RuntimeError("context: " + answer["error"])
        return answer["ok"]

    def log(self, record):
        payload = encode_text(record).encode("utf-8", "replace")
        with self.lock:
            self.send(b"L", payload)


class Context(MutableMapping):
    """What a policy keeps between runs. Every operation is one atomic request to the host."""

    __slots__ = ("_ask",)

    def __init__(self, ask):
        self._ask = ask

    def __getitem__(self, key):
        answer = self._ask({"op": "get", "key": text_key(key)})
        if not answer["found"]:
            raise KeyError(key)
        return answer["value"]

    def get(self, key, default=None):
        answer = self._ask({"op": "get", "key": text_key(key)})
        return answer["value"] if answer["found"] else default

    def __contains__(self, key):
        return isinstance(key, str) and self._ask({"op": "get", "key": key})["found"]

    def __setitem__(self, key, value):
        self._ask({"op": "set", "key": text_key(key), "value": value})

    def set(self, key, value, ttl=None):
        """Keep `value`; with `ttl`, for that many seconds."""
        self._ask({"op": "set", "key": text_key(key), "value": value, "ttl_seconds": ttl})

    def __delitem__(self, key):
        if not self._ask({"op": "delete", "key": text_key(key)})["found"]:
            raise KeyError(key)

    _missing = object()

    def pop(self, key, default=_missing):
        answer = self._ask({"op": "pop", "key": text_key(key)})
        if answer["found"]:
            return answer["value"]
        if default is self._missing:
            raise KeyError(key)
        return default

    def setdefault(self, key, default=None):
        return self._ask({"op": "set_default", "key": text_key(key), "value": default})

    def incr(self, key, by=1):
        """Add `by` to the number at `key` (0 when there is none) and return the sum."""
        return self._ask({"op": "incr", "key": text_key(key), "by": by})

    def update(self, *args, **kwargs):
        self._ask({"op": "update", "entries": {text_key(k): v for k, v in dict(*args, **kwargs).items()}})

    def clear(self):
        self._ask({"op": "clear"})

    def __iter__(self):
        return iter(self._ask({"op": "keys"}))

    def __len__(self):
        return self._ask({"op": "len"})

    def keys(self):
        return dict.fromkeys(self._ask({"op": "keys"})).keys()

    def items(self):
        return dict(self._ask({"op": "items"})).items()

    def values(self):
        return dict(self._ask({"op": "items"})).values()

    def __repr__(self):
        return "Context(%r)" % dict(self.items())


def text_key(key):
    if isinstance(key, str):
        return key
    raise TypeError("context keys must be strings, not " + type(key).__name__)


def encode(value):
    """`value` as JSON text; NotJson names the place in it that JSON cannot hold."""
    try:
        text = encode_text(value)
        text.encode()  # a lone surrogate is no text that JSON can carry
        return text
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        fault = find_fault(value) or str(error)
    raise NotJson(fault)


def find_fault(value):
    """Where and why `value` is not JSON: `$.a[3] is a set`. A loop, not recursion: it may be endlessly deep."""
    todo, above = [("$", value, 0)], []
    while todo:
        path, item, depth = todo.pop()
        del above[depth:]
        if depth > 900:
            return path[:200] + " is nested too deeply"
        if item is None or isinstance(item, (bool, int)):
            continue
        if isinstance(item, float):
            if item != item or item in (float("inf"), float("-inf")):
                return "%s is %r" % (path, float(item))
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                return path + " is text with half a surrogate pair"
        elif isinstance(item, (dict, list, tuple)):
            if id(item) in above:
                return path + " holds itself"
            above.append(id(item))
            if isinstance(item, dict):
                for key in item:
                    if not (key is None or isinstance(key, (str, int, float, bool))):
                        return "%s has a key of type %s" % (path, type(key).__name__)
                inner = [("%s.%s" % (path, key), part, depth + 1) for key, part in item.items()]
            else:
                inner = [("%s[%d]" % (path, i), part, depth + 1) for i, part in enumerate(item)]
            todo.extend(reversed(inner))
        else:
            return "%s is of type %s" % (path, type(item).__name__)
    return None


class Policy:
    """The policy's code and what a run does with it."""

    def __init__(self, root, fresh):
        self.root, self.fresh = root, fresh
        self.file = os.path.join(root, "function.py")
        sys.path.insert(0, root)
        self.cls = None
        self.code = None

    def load(self):
        """Import the module. With `fresh` only compile it: then each run executes it anew."""
        if self.fresh:
            with open(self.file, "rb") as file:
                self.code = compile(file.read(), self.file, "exec")
        else:
            self.cls = find_class(__import__("function"))

    def make_class(self):
        if not self.fresh:
            return self.cls
        module = type(sys)("function")
        module.__file__ = self.file
        sys.modules["function"] = module
        exec(self.code, module.__dict__)
        return find_class(module)

    def run(self, request, context):
        """The reply to `request`, as JSON text."""
        settings, parameters = request["settings"], request["parameters"]
        rule = self.make_class()(request["rule_id"], settings, parameters)
        if request["op"] == "eval":
            return '{"result":' + encode(rule.eval(parameters, request["input"], context)) + "}"
        if not callable(getattr(rule, "management", None)):
            raise NoManagement
        return manage(rule, request, settings, parameters)

    def fault(self, error, kind):
        """An exception as the host reports it: the policy's own frames, its folder left out of all names."""
        frames, trace = [], error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name.startswith(self.root + "/"):
                frames.append("%s:%d in %s" % (name[len(self.root) + 1 :], trace.tb_lineno, trace.tb_frame.f_code.co_name))
            trace = trace.tb_next
        if len(frames) > 2 * FRAMES_LIMIT:
            frames[FRAMES_LIMIT:-FRAMES_LIMIT] = ["… %d more …" % (len(frames) - 2 * FRAMES_LIMIT)]
        try:
            message = str(error)
        except BaseException:
            message = "(no message: its __str__ failed)"
        message = message.replace(self.root + "/", "")[:MESSAGE_LIMIT]
        if isinstance(error, MemoryError):
            kind = "memory"
        return {"fault": kind, "kind": type(error).__name__, "message": message, "traceback": frames}


class Replica:
    """A policy's one long-lived instance. It answers call after call, in the order in which they come."""

    def __init__(self, policy, calls, context, config):
        self.policy, self.calls, self.context, self.config = policy, calls, context, config
        self.rule = None
        self.settings = self.parameters = None
        self.work = {b"B"[0]: self.make, b"R"[0]: self.call, b"M"[0]: self.manage}

    def make(self, text):
        request = decode_text(text)
        self.settings, self.parameters = request["settings"], request["parameters"]
        self.rule = self.policy.cls(request["rule_id"], self.settings, self.parameters)
        return "null"

    def call(self, text):
        rule = self.rule
        # What `management` put in the place of the parameters is what later calls get.
        parameters = getattr(rule, "parameters", self.parameters)
        return encode(rule.eval(parameters, scan_text(text, 0)[0], self.context))

    def manage(self, text):
        request, rule = decode_text(text), self.rule
        if not callable(getattr(rule, "management", None)):
            raise NoManagement
        return manage(rule, request, getattr(rule, "settings", self.settings), getattr(rule, "parameters", self.parameters))

    def serve(self):
        """Take calls until the host closes the socket. Each answer leaves at once: if the process is killed, only the
        call that it was at is lost."""
        receive, send, limit, cpu_seconds = self.calls.recv, self.calls.sendall, self.config["result_limit"], self.config["cpu_seconds"]
        data = b""
        while True:
            more = receive(65536)
            if not more:
                os._exit(0)
            data = data + more if data else more
            at, size = 0, len(data)
            while size - at >= 5:
                end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "little")
                if end > size:
                    data, at, size, end = self.rest(data[at:], end - size), 0, end - at, end - at
                if cpu_seconds:
                    limit_cpu(cpu_seconds, False)
                kind, payload = answer(self.policy, self.work[data[at]], data[at + 5 : end].decode(), limit)
                send(kind + len(payload).to_bytes(4, "little") + payload)
                at = end
            data = data[at:]

    def rest(self, data, missing):
        """`data` and the `missing` bytes that follow it."""
        parts = [data]
        while missing:
            part = self.calls.recv(min(missing, 1 << 20))
            if not part:
                os._exit(0)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


class Checker:
    """Stands where a policy does, and looks at source text instead of running it."""

    root = "/"

    def load(self):
        import ast  # now, not with the first source

    def run(self, request, context):
        return '{"result":' + encode(check(request["source"])) + "}"


def manage(rule, request, settings, parameters):
    """What `management` returned and what it changed, as JSON text."""
    before = encode_text(settings), encode_text(parameters)
    reply = '{"result":' + encode(rule.management(request["action"], request["data"]))
    for name, old in zip(("settings", "parameters"), before):
        new = encode(getattr(rule, name, None))
        if new != old:
            reply += ',"%s":%s' % (name, new)
    return reply + "}"


class NoManagement(Exception):
    """The policy has no method `management`."""


class ClassMissing(Exception):
    """function.py does not define what it must."""


def find_class(module):
    cls = getattr(module, "AIOSv1PolicyRule", None)
    if cls is None:
        raise ClassMissing("function.py defines no class AIOSv1PolicyRule")
    if not callable(getattr(cls, "eval", None)):
        raise ClassMissing("class AIOSv1PolicyRule has no method eval")
    return cls


def bytes_of(value):
    """`value` as JSON bytes. Text that JSON cannot carry (a message may hold any) is replaced."""
    return encode_text(value).encode("utf-8", "replace")


def serve(channel, policy, config, once):
    """Answer the host's requests until it closes the socket; with `once`, one."""
    context = Context(channel.ask)
    while True:
        text = channel.receive()
        if text is None:
            os._exit(0)
        if config["cpu_seconds"]:
            limit_cpu(config["cpu_seconds"], once)
        carry_out(channel, policy, text, context, config["result_limit"])
        text = None
        if once:
            os._exit(0)
        tidy(os.environ["TMPDIR"])


def carry_out(channel, policy, text, context, result_limit):
    kind, payload = answer(policy, lambda text: policy.run(decode_text(text), context), text, result_limit)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the policy closed or replaced it
    with channel.lock:
        channel.send(kind, payload)


def answer(policy, work, text, result_limit):
    """What `work` makes of `text`, or its fault, as a frame's kind and payload."""
    stage = None
    try:
        try:
            reply = work(text)
        except MemoryError as error:
            # What the policy held is gone with its frames only after this block; until then the report
            # needs room that the limit no longer leaves.
            resource.setrlimit(resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[1],) * 2)
            stage = "result" if in_encoder(error) else None
            raise
        size = len(reply)
        if size <= result_limit:
            payload = reply.encode()
            size = len(payload)
        if size > result_limit:
            return b"E", bytes_of({"fault": "result"})
        return b"D", payload
    except NotJson as error:
        fault = {"fault": "not_json", "message": str(error)}
    except CpuExceeded:
        fault = {"fault": "cpu"}
    except NoManagement:
        fault = {"fault": "no_management"}
    except ClassMissing as error:
        fault = {"fault": "load", "kind": "ClassMissing", "message": str(error), "traceback": []}
    except BaseException as error:
        fault = {"fault": stage} if stage else policy.fault(error, "failed")
    return b"E", bytes_of(fault)


def in_encoder(error):
    """Whether memory ran out while a result was being written: then it is the result that is too large."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is encode.__code__:
            return True
        trace = trace.tb_next
    return False


class CpuExceeded(BaseException):
    """A run in a worker that goes on has used its CPU time."""


def limit_cpu(seconds, once):
    """A child of one run is killed by the hard limit: as first process of its namespace it would not even
    notice the soft one's signal. One that goes on has to notice: a hard limit cannot be raised again."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    if once:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        return
    import _signal

    def exceeded(*_):
        raise CpuExceeded

    _signal.signal(_signal.SIGXCPU, exceeded)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


class LoggingHook:
    """Sends what the policy logs to the host, from the moment that the policy imports `logging`. Importing
    it for every policy would cost each of them a megabyte and ten milliseconds."""

    channel = None

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                execute = spec.loader.exec_module

                def exec_module(module):
                    execute(module)
                    cls.install(module)

                spec.loader.exec_module = exec_module
                return spec
        return None

    @classmethod
    def install(cls, logging):
        class Handler(logging.Handler):
            def emit(self, record):
                try:
                    message = record.getMessage()
                    if record.exc_info and record.exc_info[0]:
                        message += " (%s: %s)" % (record.exc_info[0].__name__, record.exc_info[1])
                    level, logger = record.levelname, record.name
                    if cls.channel is not None:
                        cls.channel.log(
                            {"time": record.created, "level": level, "logger": logger, "message": message[:65536]}
                        )
                except Exception:
                    pass  # logging never breaks the policy

        logging.root.addHandler(Handler())
        logging.root.setLevel(logging.INFO)


def has_threads():
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:  # a sandbox without /proc
        return "threading" in sys.modules and sys.modules["threading"].active_count() > 1


class Template:
    """The process that forks: holds the policy, imported, and makes children when the host asks."""

    def __init__(self, control, config):
        self.control, self.config = control, config
        self.policy = Checker() if config["mode"] == "check" else Policy(config["code"], config["mode"] == "instance")
        self.running = {}  # number -> (pid, slot)
        self.ended = []  # (pid, slot): told to end, not reaped yet
        self.slots = list(reversed(config["slots"]))
        self.flags = SIGCHLD | (CLONE_NEWUSER | CLONE_NEWPID if config["run_namespaces"] else 0)

    def load(self):
        try:
            self.policy.load()
        except ClassMissing as error:
            fault = {"fault": "load", "kind": "ClassMissing", "message": str(error), "traceback": []}
        except BaseException as error:
            fault = self.policy.fault(error, "load")
        else:
            # A forked copy of a process with threads lacks them, and may hold their locks for ever.
            self.solo = self.config["mode"] == "function" or has_threads()
            self.control.send(b"L" + bytes_of({"solo": self.solo}))
            return True
        self.control.send(b"X" + bytes_of(fault))
        return False

    def serve(self):
        if not self.solo:
            rehearse()
        gc.collect()
        gc.freeze()  # the collector would write to, and so copy, every page that children share
        while True:
            self.control.settimeout(0.02 if self.ended else None)
            try:
                message = self.control.recv(65536)
            except TimeoutError:
                self.reap()
                continue
            if not message:
                os._exit(0)
            for word in message.decode().split():
                number = int(word[1:])
                if word[0] == "F":
                    self.reap()
                    self.fork(number)
                else:
                    self.finish(number, word[0] == "Q")

    def fork(self, number):
        if self.solo:
            self.become_child(number, self.slots.pop())
        if not self.slots:
            self.reap(wait=True)
        slot = self.slots.pop()
        BEFORE_FORK()
        pid = SYSCALL(self.config["clone"], self.flags, 0, 0, 0, 0)
        if pid == 0:
            AFTER_FORK_CHILD()
            self.become_child(number, slot)
        errno = ctypes.get_errno()
        AFTER_FORK_PARENT()
        if pid < 0:
            self.slots.append(slot)
            self.control.send(b"N%d %d" % (number, errno))
        else:
            self.running[number] = pid, slot

    def finish(self, number, report):
        """End the child. As first process of its namespace it takes with it everything that it started; one
        that is exiting by itself keeps the status that it exits with."""
        if number not in self.running:
            return
        pid, slot = self.running.pop(number)
        os.kill(pid, SIGKILL)
        if report:
            _, status, used = os.wait4(pid, 0)
            cpu = int((used.ru_utime + used.ru_stime) * 1000)
            self.control.send(b"E%d %d %d" % (number, status, cpu))
            self.release(slot)
        else:
            self.ended.append((pid, slot))

    def reap(self, wait=False):
        left = []
        for pid, slot in self.ended:
            if os.waitpid(pid, 0 if wait else os.WNOHANG)[0]:
                self.release(slot)
            else:
                left.append((pid, slot))
        self.ended = left

    def release(self, slot):
        tidy(slot)
        self.slots.append(slot)

    def become_child(self, number, slot):
        """Never returns: the child's whole life."""
        config = self.config
        if not self.solo:
            restrict_child(config)
        theirs, ours = _socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        os.dup2(out_write, 1)
        os.dup2(err_write, 2)
        pairs = [(theirs, ours)]
        if config["mode"] == "function":
            pairs.append(_socket.socketpair())
        sockets = [pair[0].detach() for pair in pairs]
        ends = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (sockets[0], out_read, err_read, *sockets[1:]))
        self.control.sendmsg([b"H%d" % number], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, ends)])
        for fd in (CONTROL, out_read, out_write, err_read, err_write, *sockets):
            os.close(fd)
        self.control.detach()
        settle_in(slot)
        os.chdir(slot)
        channel = LoggingHook.channel = Channel(ours)
        if config["mode"] == "function":
            restrict_replica(config)
            Replica(self.policy, pairs[1][1], Context(channel.ask), config).serve()
        warm_up()
        serve(channel, self.policy, config, once=config["mode"] == "process")


def settle_in(slot):
    os.environ["HOME"] = os.environ["TMPDIR"] = slot


def restrict_child(config):
    if config["run_namespaces"]:
        # A group of its own: kill(0) must not reach the other children of the template.
        os.setpgid(0, 0)
        # The new user namespace came with all capabilities in it; a run needs none.
        CAPSET(*CAPABILITIES)
        resource.setrlimit(resource.RLIMIT_NPROC, (config["processes"],) * 2)
    else:
        LIBC.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != config["pid"]:
            os._exit(0)
        apply_run_filter(config)


def restrict_replica(config):
    if config["run_filter"]:
        apply_run_filter(config)
    elif config["own_uid"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (config["processes"],) * 2)


def apply_run_filter(config):
    """Without namespaces only a filter keeps a run from signalling others and from leaving processes."""
    code = bytes.fromhex(config["run_filter"]).replace(
        bytes.fromhex(config["run_filter_pid"]), os.getpid().to_bytes(4, sys.byteorder)
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(buffer))
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        os._exit(71)


class Understudy:
    """A policy for rehearsals."""

    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters

    def eval(self, parameters, input_data, context):
        return {"allowed": parameters["a"] == input_data["a"], "reason": "a", "input_data": input_data}


def rehearse(rounds=24):
    """Go through the motions of a run, in the template. Python rewrites code while it learns what the code does, and
    remembers where it has found attributes; what it has written before the fork no child has to copy."""
    ours, theirs = _socket.socketpair()
    channel = Channel(ours)
    policy = Policy.__new__(Policy)
    policy.fresh, policy.cls = False, Understudy
    values = '{"a":[1,2.5,"b",null,true],"c":{"d":"e"}}'
    request = '{"rule_id":"a:1-b","op":"eval","settings":{},"parameters":%s,"input":%s}' % (values, values)
    host = Channel(theirs)
    for _ in range(rounds):
        settle_in(os.environ["TMPDIR"])
        host.send(b"R", request.encode())
        carry_out(channel, policy, channel.receive(), Context(channel.ask), 1 << 20)
        host.receive()


def warm_up():
    """Touch the pages that every run writes to, while nobody is waiting: the first write to each copies it."""
    encode(decode_text('{"a":[1,2.5,"b",null,true],"c":{"d":"e"}}')).encode()


def tidy(folder):
    """Empty `folder`, whatever a run left in it: folders without permissions, trees deeper than a path can
    be. Each folder found is moved up before it is looked into, so no path gets long."""
    try:
        if not os.listdir(folder):
            return
    except OSError:
        pass
    os.chmod(folder, 0o700)
    count = 0
    todo = [entry.path for entry in os.scandir(folder)]
    while todo:
        path = todo.pop()
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            continue
        os.chmod(path, 0o700)
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                count += 1
                moved = "%s/.tidy-%d" % (folder, count)
                os.chmod(entry.path, 0o700)
                os.rename(entry.path, moved)
                todo.append(moved)
            else:
                os.unlink(entry.path)
        os.rmdir(path)


def check(source):
    """What `source` defines, found by parsing it; it is never executed."""
    import ast

    try:
        tree = ast.parse(source, "function.py")
    except SyntaxError as error:
        return {"fault": "syntax", "message": error.msg, "line": error.lineno, "column": error.offset, "text": (error.text or "").rstrip("\n")[:500]}
    except (ValueError, RecursionError, MemoryError) as error:
        return {"fault": "syntax", "message": str(error) or "too deeply nested to parse", "line": None, "column": None, "text": None}
    found = None
    for node in walk_top(tree.body, ast):
        if isinstance(node, ast.ClassDef) and node.name == "AIOSv1PolicyRule":
            methods = {part.name for part in walk_top(node.body, ast) if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}
            methods |= {name for part in walk_top(node.body, ast) for name in names_bound(part, ast)}
            found = {"inherits": bool(node.bases), "has_eval": "eval" in methods, "has_management": "management" in methods}
        elif "AIOSv1PolicyRule" in names_bound(node, ast):
            found = {"inherits": True, "has_eval": False, "has_management": False}
    if found is None:
        return {"fault": "class_missing"}
    if not found["has_eval"] and not found["inherits"]:
        return {"fault": "eval_missing"}
    return {"has_management": found["has_management"], "inherits": found["inherits"]}


def walk_top(body, ast):
    """The statements that run when `body` does: also those under if, try, with and loops, not in functions."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from walk_top(getattr(node, field, None) or [], ast)
            for handler in getattr(node, "handlers", []):
                yield from walk_top(handler.body, ast)


def names_bound(node, ast):
    """The names that an import or an assignment binds."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names} | {"AIOSv1PolicyRule" for alias in node.names if alias.name == "*"}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def limit_memory(bytes_):
    """`bytes_` on top of what the interpreter has already taken. DATA counts what is private and writable,
    heap and mmap alike, but not reservations (each thread of malloc makes one of 64 MiB); AS bounds the
    rest, shared memory above all. Between DATA's soft and hard value is room to report that it ran out."""
    try:
        with open("/proc/self/statm") as file:
            size, _, _, _, _, data, _ = (int(pages) * resource.getpagesize() for pages in file.read().split())
    except OSError:  # a sandbox without /proc
        size, data = 64 << 20, 16 << 20
    soft = data + bytes_
    resource.setrlimit(resource.RLIMIT_DATA, (soft, soft + (16 << 20)))
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * bytes_ + (1 << 30),) * 2)


def main():
    control = _socket.socket(fileno=CONTROL)
    config = decode_text(control.recv(1 << 20).decode())
    config["pid"] = os.getpid()
    limit_memory(config["memory"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.meta_path.insert(0, LoggingHook)
    template = Template(control, config)
    if not template.load():
        os._exit(0)
    template.serve()


if __name__ == "__main__":
    main()
