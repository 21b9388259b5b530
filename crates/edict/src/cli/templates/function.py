"""Decides whether a value stays within a limit."""

import logging

log = logging.getLogger(__name__)


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id = rule_id
        self.settings = settings
        self.parameters = parameters

    def eval(self, parameters, input_data, context):
        """Called for every run. `context` keeps values from one run to the next."""
        value = input_data["value"]
        limit = parameters["limit"]
        allowed = value <= limit
        log.info("value %s, limit %s", value, limit)
        unit = self.settings.get("unit", "")
        comparison = "within" if allowed else "above"
        return {"allowed": allowed, "reason": f"{value}{unit} is {comparison} the limit of {limit}{unit}"}

    def management(self, action, data):
        """Called for management commands. What it changes in the parameters counts for later runs."""
        if action == "set_limit":
            self.parameters["limit"] = data["limit"]
            return {"limit": data["limit"]}
        if action == "get_limit":
            return {"limit": self.parameters["limit"]}
        raise ValueError(f"unknown action {action!r}")
