"""The paths in a server's pod at which volumes are mounted. All builders of the pod use them."""

MODEL_MOUNT = "/model"
ADAPTERS_MOUNT = "/adapters"
CACHE_MOUNT = "/cache"
KEYS_MOUNT = "/run/forebay/keys"
CONTROL_MOUNT = "/run/forebay/control"
"""The server's default path of the token for engine control."""

OVERLAY_MOUNT = "/run/forebay/overlay"
"""The path of the server's own files. overlay/byte_code.py has it in the byte code."""
