"""Make a kind cluster, and the images that run in it, on any machine: `python3 -m cluster --help`.

Standard library only, so that it runs before anything is installed.
"""
