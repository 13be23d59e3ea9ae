"""Reports the state of the operator itself: probes, metrics and the lag of its event loop.

`app` starts it. The kubelet and Prometheus read it at the ops port.
"""
