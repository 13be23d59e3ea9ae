"""Everything that the operator reads from the API server and writes there."""
