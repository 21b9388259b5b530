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
