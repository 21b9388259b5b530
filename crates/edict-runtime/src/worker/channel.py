"""What goes over a socket: frames, and policies' values as JSON text."""


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


def bytes_of(value):
    """`value` as JSON bytes. Text that JSON cannot carry (a message may hold any) is replaced."""
    return encode_text(value).encode("utf-8", "replace")
