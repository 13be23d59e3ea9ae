"""The way of a request: from the connection of a client to a pod and back."""
