"""How many replicas an endpoint should have: from what pods and gateways say of their requests to a number."""

from forebay_operator.scaling.decision import Policy, decide
from forebay_operator.scaling.history import History, Sample

__all__ = ["History", "Policy", "Sample", "decide"]
