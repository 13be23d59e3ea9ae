"""Leads requests of endpoints without ready pods to the gateways: EndpointSlices and ports.

`port_allocator` is pure. `slice_writer` reads and writes the API server.
"""
