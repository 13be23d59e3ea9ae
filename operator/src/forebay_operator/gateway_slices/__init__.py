"""Routes requests for endpoints without ready pods to the gateways, by EndpointSlices and ports.

`port_allocator` is pure. `slice_writer` reads and writes the API server.
"""
