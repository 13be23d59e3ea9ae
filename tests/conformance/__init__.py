"""Conformance suites of others, run against a running server."""
