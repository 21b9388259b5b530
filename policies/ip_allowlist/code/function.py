"""Allows a request when its IP address is on a list kept in the parameters or served by an HTTP API."""

import logging

logger = logging.getLogger("ip_allowlist")

# Seconds. Without a limit a silent API would hold the caller until the run's own time limit kills it.
FETCH_TIMEOUT = 5


class AIOSv1PolicyRule:
    """The policy; it touches the network only when `settings["allowlist_api"]` names an API."""

    def __init__(self, rule_id, settings, parameters):
        """Keep what the registry and the caller configured; nothing is fetched until it is needed.

        settings: optional `allowlist_api`, the URL of a JSON document `{"allowlist": ["10.0.0.1", ...]}`.
        parameters: optional `local_allowlist`, a list of IP addresses.
        """
        self.rule_id = rule_id
        self.settings = settings
        self.parameters = parameters
        self.remote_allowlist = []

    def eval(self, parameters, input_data, context):
        """Decide on `input_data["ip"]`: `{"allowed": bool, "reason": str, "input_data": ...}`."""
        ip = input_data.get("ip")
        if not ip:
            return self._decision(False, "the input holds no ip", input_data)
        if ip in parameters.get("local_allowlist", ()):
            return self._decision(True, "allowed", input_data)
        if not self.remote_allowlist:
            self.remote_allowlist = self._fetch()
        if ip in self.remote_allowlist:
            return self._decision(True, "allowed", input_data)
        return self._decision(False, "denied", input_data)

    def management(self, action, data):
        """Run `update_local_allowlist`, `fetch_remote_allowlist` or `get_state`; `status` says how it went."""
        if action == "update_local_allowlist":
            return self._update_local_allowlist(data)
        if action == "fetch_remote_allowlist":
            self.remote_allowlist = self._fetch()
            return {"status": "success", "remote_allowlist": self.remote_allowlist}
        if action == "get_state":
            return {
                "status": "success",
                "local_allowlist": self.parameters.get("local_allowlist", []),
                "cached_remote_allowlist": self.remote_allowlist,
            }
        return {"status": "error", "message": f"no such action: {action}"}

    def _update_local_allowlist(self, data):
        ips = data.get("ips", [])
        if not isinstance(ips, list):
            return {"status": "error", "message": "ips must be a list of addresses"}
        self.parameters["local_allowlist"] = ips
        return {"status": "success", "updated_allowlist": ips}

    def _fetch(self):
        """The addresses the API serves; none, with a log line, when it is not configured or fails.

        A broken API must leave the local list working, and must not open anything up.
        """
        url = self.settings.get("allowlist_api")
        if not url:
            return []
        # Imported here because urllib.request takes longer to load than everything else in this policy.
        import json
        import urllib.request

        try:
            with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT) as reply:
                addresses = json.load(reply).get("allowlist", [])
        except (OSError, ValueError, AttributeError) as error:
            logger.error("cannot fetch the allowlist: %s", error)
            return []
        return addresses if isinstance(addresses, list) else []

    @staticmethod
    def _decision(allowed, reason, input_data):
        return {"allowed": allowed, "reason": reason, "input_data": input_data}
