"""The policy on granian, in its own protocol: HTTP in Rust, Python in the same process, nothing in between."""

import json

from policy import PARAMETERS, load

RULE = load()
HEADERS = [("content-type", "application/json")]


async def app(_scope, protocol):
    answer = RULE.eval(PARAMETERS, json.loads(await protocol()), {})
    protocol.response_str(200, HEADERS, json.dumps({"success": True, "data": answer}))
