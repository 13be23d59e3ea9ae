"""Computes the status of an endpoint. Everything here is pure."""
