"""HTTP to pods: the requests that servers and gateways report, and the progress of starts."""
