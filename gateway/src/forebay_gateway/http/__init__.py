"""HTTP as a protocol: heads, bodies, routes and errors. Everything here is pure."""
