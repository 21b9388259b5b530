"""Brings both findings together: gets a list of its parents' outputs."""


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        threat, activity = input_data
        if threat["threat"]:
            return {"decision": "block", "reason": "a known attacker"}
        if activity["listed"]:
            return {"decision": "allow", "reason": "on the allowlist"}
        return {"decision": "review", "reason": f"unknown, seen {activity['seen']} times"}
