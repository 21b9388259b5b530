"""The policy that product and peers serve: is an address on the list?"""

import time


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters
        self.calls = 0

    def eval(self, parameters, input_data, context):
        self.calls += 1
        burn = input_data.get("burn_ms")
        if burn:
            end = time.thread_time() + burn / 1e3
            while time.thread_time() < end:
                pass
        pause = input_data.get("sleep_ms")
        if pause:
            time.sleep(pause / 1e3)
        allowed = input_data.get("ip") in parameters.get("local_allowlist", [])
        return {"allowed": allowed, "reason": "allowed" if allowed else "denied"}


PARAMETERS = {"local_allowlist": ["10.0.0.1", "10.0.0.2"]}


def load():
    """An instance as a server keeps it."""
    return AIOSv1PolicyRule("ip:1.0-stable", {}, PARAMETERS)
