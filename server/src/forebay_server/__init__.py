"""The Forebay inference pod: vLLM's own OpenAI server, configured by the environment, with keys, probes and drain.

`__main__.py` is its command line, and `app.py` runs one server.
"""

__version__ = "0.1.0"
