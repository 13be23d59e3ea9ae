"""HTTP to pods: the loads that servers and gateways report, and the progress of starts.

`load` is pure and parses the answers. The others send requests.
"""
