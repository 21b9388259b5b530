"""What a policy keeps between runs."""


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
