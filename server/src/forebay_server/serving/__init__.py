"""Replies as the specifications have them, made where they are serialised: routes in the place of vLLM's own."""
