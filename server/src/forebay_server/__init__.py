"""The Forebay inference pod: vLLM's own OpenAI server, configured by the environment, with keys, probes and drain."""

__version__ = "0.1.0"
