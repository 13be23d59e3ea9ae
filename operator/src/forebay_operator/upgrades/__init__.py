"""Upgrades in waves: a pod template that only the operator has changed reaches one endpoint after the other.

`wave` decides and is pure. `coordinator` collects the observations of the reconciler, and queues endpoints whose turn
it is.
"""
