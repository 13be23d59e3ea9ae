"""Leads requests of endpoints without ready pods to the gateways: EndpointSlices, ports and digests of API keys.

`port_allocator` is pure; the others read and write the API server.
"""
