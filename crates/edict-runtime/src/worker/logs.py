"""What a policy logs."""


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
