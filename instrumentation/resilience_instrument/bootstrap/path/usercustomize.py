"""The second chance, where another `sitecustomize` came first and ended the chain."""

import os

_beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sitecustomize.py")
with open(_beside, encoding="utf-8") as _file:
    exec(compile(_file.read(), _beside, "exec"))
