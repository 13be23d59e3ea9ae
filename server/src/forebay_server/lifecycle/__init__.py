"""The lifecycle of a server: download, start, warm-up, liveness, drain and the diagnosis of failures.

The command line, the app and the ops server use it.
"""
