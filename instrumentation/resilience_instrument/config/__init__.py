"""Settings: their defaults with sources, their model, how they are loaded."""
