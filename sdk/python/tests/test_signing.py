"""Golden vectors made with `printf '%s' '<JSON>' | openssl dgst -sha256 -hmac <secret>`, not with this package."""

import pytest

from aios_policy_sandbox import sign_action


def test_the_order_given_with_default_separators():
    # Over {"actionType": "restart_pod", "actionParams": {"namespace": "default", "podName": "api-pod-12345"},
    # "requestedBy": "ai-engine"}, on one line.
    params = {"namespace": "default", "podName": "api-pod-12345"}
    assert sign_action("your_jwt_secret", "restart_pod", params, "ai-engine") == (
        "6d4b35108fe06ff26afcc7f1e24040fcccbd5b5b348e38c2649dc54266268428"
    )


def test_text_beyond_ascii_floats_and_what_else_is_signed():
    # Over {"actionType": "scale_deployment", "actionParams": {"deploymentName": "caf\u00e9 \ud83d\ude00",
    # "replicas": 3, "factor": 1.5e-07}, "requestedBy": "\u00fcser", "timestamp": 1700000000, "nonce": "abc"}.
    params = {"deploymentName": "café \U0001f600", "replicas": 3, "factor": 1.5e-07}
    signature = sign_action("gehéim", "scale_deployment", params, "üser", timestamp=1700000000, nonce="abc")
    assert signature == "956661449b3e9032519478795e98e5cce181bf866dd33c72e451f310f43a9a02"


def test_a_dry_run_is_signed_as_one():
    # Over {"actionType": "restart_pod", "actionParams": {}, "requestedBy": "me", "dryRun": true}, on one line.
    signature = sign_action("your_jwt_secret", "restart_pod", {}, "me", dryRun=True)
    assert signature == "6a66d7da70d4b20f6ac909dbb59c87d3ac9e0ac39cba95e068524417c7890eb1"


def test_an_empty_secret_signs_nothing():
    with pytest.raises(ValueError, match="secret is empty"):
        sign_action("", "restart_pod", {}, "ai-engine")
