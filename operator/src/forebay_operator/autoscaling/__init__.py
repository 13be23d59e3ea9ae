"""How many replicas an endpoint should have: from what pods and gateways say of their requests to a number.

`history`, `job_counts` and `policy` are pure; `autoscaler` asks the pods and writes the number.
"""

from forebay_operator.autoscaling.history import History, Sample
from forebay_operator.autoscaling.policy import Policy, build_policy, decide

__all__ = ["History", "Policy", "Sample", "build_policy", "decide"]
