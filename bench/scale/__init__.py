"""Measures the operator at thousands of endpoints, on a real control plane whose nodes are played by kwok."""
