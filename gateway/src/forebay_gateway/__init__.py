"""The Forebay gateway: holds requests for sleeping endpoints, wakes these, and relays when a pod is ready."""

__version__ = "0.1.0"
