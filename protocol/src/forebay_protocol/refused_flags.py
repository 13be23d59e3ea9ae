"""The flags of `vllm serve` that no endpoint may set, whether by a variable or by spec.args.

The server refuses them at its start. The operator refuses them in spec.args, before a pod starts.
"""

REFUSED_FLAGS = {
    "HOST": "the Service reaches the server on every address of the pod",
    "PORT": "the Service reaches the server on its port 8000",
    "UDS": "the Service reaches the server by TCP",
    "HEADLESS": "the server has to serve HTTP",
    "GRPC": "the server has to serve HTTP",
    "GRPC_PORT": "a second way in would have no key check",
    "API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "API_SERVER_COUNT": "with several API servers, running streams are lost when the pod shuts down",
    "ROOT_PATH": "the paths /v1 and /v2/<endpoint>/openai/v1 are fixed",
    "SSL_KEYFILE": "TLS ends before the pod",
    "SSL_CERTFILE": "TLS ends before the pod",
    "SSL_CA_CERTS": "TLS ends before the pod",
    "SSL_CERT_REQS": "TLS ends before the pod",
    "SSL_CIPHERS": "TLS ends before the pod",
    "ENABLE_SSL_REFRESH": "TLS ends before the pod",
}
"""Flags that would break the key check, the URLs or the shutdown, in UPPER_CASE -> the reason."""
