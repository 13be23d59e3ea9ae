"""The work of reconciling: which endpoint is next, what it needs, and what its status becomes.

`app` starts its workers. They take keys from the work queue.
"""
