"""Reports the state of the operator itself: probes, metrics and the lag of its event loop."""
