"""Upgrades in waves: a pod template that only the operator has changed reaches one endpoint after the other.

`wave` decides and is pure. `coordinator` collects what the reconciler observes, and queues endpoints that may go on.
"""
