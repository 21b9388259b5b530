"""Counts how often an address was seen, in the context; the look-up takes 20 ms."""

import time


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        time.sleep(0.02)
        return {"seen": context.incr(input_data["input_data"]["ip"]), "listed": input_data["allowed"]}
