"""Builds the overlay image: Forebay's server without vLLM, which pods add to any image that has vLLM.

`python3 -m overlay --help` is its command line. cluster/images.py builds the image for the development cluster.
"""
