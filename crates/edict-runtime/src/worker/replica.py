"""A function's replica."""


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
        settings = getattr(rule, "settings", self.settings)
        return manage(rule, request, settings, getattr(rule, "parameters", self.parameters))

    def serve(self):
        """Take calls until the host closes the socket. Each answer leaves at once: if the process is killed, only the
        call that it was at is lost."""
        receive, send = self.calls.recv, self.calls.sendall
        limit, cpu_seconds = self.config["result_limit"], self.config["cpu_seconds"]
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
                    data = self.rest(data[at:], end - size)
                    at, size = 0, len(data)
                    end = size
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


def restrict_replica(config):
    if config["run_filter"]:
        apply_run_filter(config)
    elif config["own_uid"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (config["processes"],) * 2)
