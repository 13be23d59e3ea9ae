"""The path of a request from a client's connection to a pod, and the path of the answer back.

`listeners` creates a client connection for each socket. The handler decides what each request gets.
"""
