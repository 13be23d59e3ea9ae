"""What the status of an endpoint is. Everything here is pure."""
