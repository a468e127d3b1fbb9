"""One room a library: where it is patched and how its calls are read."""
