"""The configuration of a server: variables, flags of vLLM, and what is wrong with them."""
