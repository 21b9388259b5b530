"""Uses 5 ms of CPU per call: what autoscaling has to deal with."""

import time


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        end = time.process_time() + 0.005
        while time.process_time() < end:
            pass
        return {"done": True}
