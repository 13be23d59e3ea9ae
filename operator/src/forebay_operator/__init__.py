"""The Forebay operator."""
