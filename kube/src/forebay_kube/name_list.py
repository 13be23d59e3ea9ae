"""Lists of names in arguments and variables."""


def read_names(text: str) -> list[str]:
    """The names in a text that separates them by commas, without the white space around them and without empty ones."""
    return [name for each in text.split(",") if (name := each.strip())]
