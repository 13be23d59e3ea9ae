"""Builds the pod template of an endpoint: the spec and the metadata of its pods. Pure; deployment.py calls it."""
