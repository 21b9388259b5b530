"""The policy's code, and what is done with it."""


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


def manage(rule, request, settings, parameters):
    """What `management` returned and what it changed, as JSON text."""
    before = encode_text(settings), encode_text(parameters)
    reply = '{"result":' + encode(rule.management(request["action"], request["data"]))
    for name, old in zip(("settings", "parameters"), before):
        new = encode(getattr(rule, name, None))
        if new != old:
            reply += ',"%s":%s' % (name, new)
    return reply + "}"


def find_class(module):
    cls = getattr(module, "AIOSv1PolicyRule", None)
    if cls is None:
        raise ClassMissing("function.py defines no class AIOSv1PolicyRule")
    if not callable(getattr(cls, "eval", None)):
        raise ClassMissing("class AIOSv1PolicyRule has no method eval")
    return cls


class NoManagement(Exception):
    """The policy has no method `management`."""


class ClassMissing(Exception):
    """function.py does not define what it must."""
