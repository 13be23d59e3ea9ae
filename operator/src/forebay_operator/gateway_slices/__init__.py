"""How gateways receive the requests of endpoints that have no pod: EndpointSlices, ports and digests of API keys."""
