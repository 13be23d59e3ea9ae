"""The configuration of a server: environment variables, vLLM's flags, and messages about wrong values.

The command line calls it before vLLM starts.
"""
