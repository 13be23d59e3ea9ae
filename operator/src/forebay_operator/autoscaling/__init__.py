"""Decides the number of replicas of endpoints with spec.scaling, from the loads of their pods and of the gateways.

`history`, `job_counts` and `policy` are pure. `autoscaler` reads the loads and writes the number.
"""

from forebay_operator.autoscaling.history import History, Sample
from forebay_operator.autoscaling.policy import Policy, build_policy, decide

__all__ = ["History", "Policy", "Sample", "build_policy", "decide"]
