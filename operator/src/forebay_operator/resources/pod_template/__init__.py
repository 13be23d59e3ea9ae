"""Builds the pod template of an endpoint's Deployment: the pod's spec and its metadata. Pure; deployment.py calls it."""
