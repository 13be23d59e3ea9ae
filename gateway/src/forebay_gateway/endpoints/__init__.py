"""The gateway's view of the cluster: endpoints, their pods and API keys.

`watch` follows the API server. Everything else is pure.
"""
