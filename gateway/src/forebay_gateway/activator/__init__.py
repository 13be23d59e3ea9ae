"""Requests of endpoints that have no pod: they wait here while a pod starts."""
