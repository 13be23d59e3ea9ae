"""The Forebay operator.

`app.py` connects the parts, and `controller/` reconciles endpoints.
"""
