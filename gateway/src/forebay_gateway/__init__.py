"""The Forebay gateway: holds requests for sleeping endpoints, wakes the endpoints, and relays to ready pods."""

__version__ = "0.1.0"
