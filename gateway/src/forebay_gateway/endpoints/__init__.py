"""What the gateway knows of the cluster: endpoints, their pods and API keys.

`watch` follows the API server; everything else is pure.
"""
