"""Chooses the executor for a job or function: one that works, has the labels asked for, and has most room."""


class AIOSv1PolicyRule:
    """The default allocator; it needs neither settings nor parameters."""

    def __init__(self, rule_id, settings, parameters):
        """Keep what every policy is given."""
        self.rule_id = rule_id
        self.settings = settings
        self.parameters = parameters

    def eval(self, parameters, input_data, context):
        """Choose from `input_data["executors"]`: `{"executor_id": str | None, "passed_over": [...]}`."""
        executors = input_data["executors"]
        wanted = _replicas(input_data["request"]) if input_data["kind"] == "function" else 0
        reasons = {executor["executor_id"]: _against(executor, wanted) for executor in executors}
        able = [executor for executor in executors if reasons[executor["executor_id"]] is None]
        chosen = min(able, key=_rank, default=None)
        chosen_id = chosen and chosen["executor_id"]
        passed_over = [
            {"executor_id": name, "reason": reason or "another one has more room"}
            for name, reason in reasons.items()
            if name != chosen_id
        ]
        return {"executor_id": chosen_id, "passed_over": passed_over}


def _replicas(request):
    """How many replicas a function starts with."""
    return request.get("replicas") or _object(request.get("autoscaling")).get("min_replicas") or 1


def _against(executor, replicas):
    """Why an executor cannot take it; None when it can."""
    status = executor["executor_status"]
    if status not in ("healthy", "busy"):
        return "it is " + status
    if not executor["fits"]:
        return executor["reason"]
    most = executor["executor_hardware_info"].get("max_replicas")
    taken = executor["load"]["replicas"]
    if replicas and isinstance(most, int) and taken + replicas > most:
        return f"it runs at most {most} replicas, and {taken} of them are taken"
    return None


def _rank(executor):
    """Smallest is best: healthy before busy, then the least work per processor, then memory, then the name."""
    load = executor["load"]
    work = sum(load.get(name, 0) for name in ("runs_active", "runs_waiting", "jobs", "replicas"))
    hardware = executor["executor_hardware_info"]
    processors = _number(_object(hardware.get("vcpus")).get("count")) or 1
    return (
        executor["executor_status"] != "healthy",
        work / processors,
        -processors,
        -_number(hardware.get("memory")),
        executor["executor_id"],
    )


def _object(value):
    return value if isinstance(value, dict) else {}


def _number(value):
    """Records are written by people, too: what is no amount counts as nothing."""
    return value if isinstance(value, (int, float)) and value > 0 else 0
