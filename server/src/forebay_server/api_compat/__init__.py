"""Converts clients' requests to what vLLM accepts, and vLLM's replies to what the APIs specify. Pure."""
