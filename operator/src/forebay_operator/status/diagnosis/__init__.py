"""Diagnoses why an endpoint does not serve: tables of checks and texts lead from Kubernetes' reports to a reason.

readiness.py calls it. Pure.
"""

from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.pod_checks import diagnose_pods, explain_end, has_ended
from forebay_operator.status.diagnosis.preparing import diagnose_preparation
from forebay_operator.status.diagnosis.reasons import FAILURES, Diagnosis, Reason
from forebay_operator.status.diagnosis.rollout import diagnose_refusal, diagnose_standstill

__all__ = [
    "FAILURES",
    "Diagnosis",
    "Reason",
    "diagnose_pods",
    "diagnose_preparation",
    "diagnose_refusal",
    "diagnose_standstill",
    "explain_end",
    "has_ended",
    "reasons",
]
