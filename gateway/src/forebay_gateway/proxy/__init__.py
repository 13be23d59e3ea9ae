"""The path of a request: from a client's connection to a pod, and of the answer back."""
