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

import hmac
import hashlib
import json

def execute_action(
    action_type: str,
    action_params: dict,
    policy_decision: dict,
    jwt_secret: str
) -> dict:
    """Execute action via Executor service"""
    
    # Generate signature
    payload = json.dumps({
        "actionType": action_type,
        "actionParams": action_params,
        "requestedBy": "ai-engine"
    })
    
    signature = hmac.new(
        jwt_secret.encode(),
        payload.encode(),
        hashlib.sha256
    ).hexdigest()
    
    # Execute
    response = requests.post(
        "http://localhost:4000/executor/execute",
        json={
            "actionType": action_type,
            "actionParams": action_params,
            "requestedBy": "ai-engine",
            "policyDecision": policy_decision,
            "signature": signature
        }
    )
    
    return response.json()

# Execute if allowed
if policy_decision['allowed']:
    result = execute_action(
        action_type="restart_pod",
        action_params={
            "namespace": "default",
            "podName": "api-pod-12345"
        },
        policy_decision=policy_decision,
        jwt_secret="your_jwt_secret"
    )
    
    if result['success']:
        print(f"✅ Action executed successfully")
        print(f"   Audit ID: {result['auditId']}")
    else:
        print(f"✗ Action failed: {result['error']}")
