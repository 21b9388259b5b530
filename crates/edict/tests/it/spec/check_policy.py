import requests


def check_policy(action: str, resource: str, context: dict) -> dict:
    """Check if action is allowed by policy"""
    response = requests.post(
        "http://localhost:3000/api/v1/policy/evaluate",
        json={
            "action": action,
            "resource": resource,
            "type": "self_healing",
            "context": context
        }
    )
    return response.json()

# Check policy
policy_decision = check_policy(
    action="restart_pod",
    resource="pod:api-pod-12345",
    context={
        "userId": "ai-engine",
        "role": "service",
        "metadata": {
            "severity": "high",
            "automated": True,
            "reason": "High error rate detected"
        }
    }
)

print(f"Policy decision: {policy_decision['allowed']}")
print(f"Reason: {policy_decision['reason']}")
