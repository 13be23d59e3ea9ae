"""The HTTP servers of the pod: middleware, routes that replace vLLM's own, errors, ops port and engine control.

The app installs it around vLLM's app.
"""
