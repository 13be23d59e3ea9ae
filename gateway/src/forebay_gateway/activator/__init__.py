"""Requests of endpoints without a ready pod wait here while a pod starts."""
