"""Makes the API keys of endpoints known to the gateways as digests, and reads their Secrets again on request."""
