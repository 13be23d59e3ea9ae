"""The parts of the API that pod and gateway share. They need only Python's own library, as both images have them."""
