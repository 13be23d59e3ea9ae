"""The Forebay gateway: holds requests for sleeping endpoints, wakes the endpoints, and relays to ready pods.

`app.py` connects the parts, `proxy/` serves requests, `jobs/` and `batches/` serve RunPod's jobs and OpenAI's batches.
"""

__version__ = "0.1.0"
