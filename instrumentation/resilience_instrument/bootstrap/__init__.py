"""What runs in every governed process before the app: carriers and import hooks.

Nothing here imports anything beyond `os` and `sys` until a library that the
agent governs has just been imported.
"""
