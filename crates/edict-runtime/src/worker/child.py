"""What a fresh child does before it runs anything, and what is left of it."""


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


def apply_run_filter(config):
    """Without namespaces only a filter keeps a run from signalling others and from leaving processes."""
    code = bytes.fromhex(config["run_filter"]).replace(
        bytes.fromhex(config["run_filter_pid"]), os.getpid().to_bytes(4, sys.byteorder)
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(buffer))
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        os._exit(71)


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
