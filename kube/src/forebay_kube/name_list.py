"""Lists of names in arguments and variables.

The command lines of operator and gateway parse with it.
"""


def read_names(text: str) -> list[str]:
    """Split a text at its commas into names. Removes white space around names, and empty names."""
    return [name for each in text.split(",") if (name := each.strip())]
