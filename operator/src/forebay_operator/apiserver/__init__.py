"""Everything that the operator reads from the API server and writes to it.

The layers above call it with plain manifests, and need no HTTP.
"""
