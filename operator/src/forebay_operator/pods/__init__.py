"""HTTP to pods: the requests that servers and gateways report, and the progress of starts.

`load` is pure: it reads what was answered. The others ask.
"""
