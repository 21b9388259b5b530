"""Signatures of requests to the action executor."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["sign_action"]


def sign_action(
    secret: str, action_type: str, action_params: Mapping[str, Any], requested_by: str, **extra: Any
) -> str:
    """Sign an action: 64 hex digits, HMAC-SHA256 with `secret` over the action's JSON.

    The JSON is `json.dumps({"actionType", "actionParams", "requestedBy", **extra})` with default separators.
    extra: what the request carries besides and is signed with it: `timestamp`, `nonce` and `dryRun`, in that order.
    Raises ValueError for an empty secret (anybody could sign with it), TypeError for what JSON cannot hold.
    """
    if not secret:
        raise ValueError("the signing secret is empty; pass the server's JWT_SECRET")
    signed = {
        "actionType": action_type,
        "actionParams": dict(action_params),
        "requestedBy": requested_by,
        **extra,
    }
    return hmac.new(secret.encode(), json.dumps(signed).encode(), hashlib.sha256).hexdigest()
