"""From a request to its answer, whatever the policy does."""


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
