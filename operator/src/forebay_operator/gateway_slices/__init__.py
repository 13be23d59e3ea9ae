"""How gateways receive the requests of endpoints that have no pod: EndpointSlices, ports and digests of API keys.

`port_allocator` is pure; the others read and write the API server.
"""
