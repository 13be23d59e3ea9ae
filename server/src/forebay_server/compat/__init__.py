"""Requests as vLLM takes them and replies as the specifications have them, for what clients really send. Pure."""
