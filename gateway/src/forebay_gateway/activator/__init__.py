"""Requests of endpoints without a ready pod wait here while a pod starts.

The request handler and the job dispatcher wait here. `app` connects it with the writes that scale up.
"""
