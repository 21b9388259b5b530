"""The process that forks."""


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
