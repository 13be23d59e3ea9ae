"""What the operator reports of itself: probes, metrics and the lag of its event loop."""
