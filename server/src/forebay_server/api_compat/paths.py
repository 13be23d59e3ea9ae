"""The paths of the APIs, as vLLM knows them.

The adapters of requests and the calls of jobs compare with them.
"""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
