"""Looks an address up in a list of known attackers; the look-up takes 20 ms."""

import time


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.known = set(parameters["known"])

    def eval(self, parameters, input_data, context):
        time.sleep(0.02)
        return {"threat": input_data["input_data"]["ip"] in self.known}
