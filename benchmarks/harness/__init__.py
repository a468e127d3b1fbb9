"""How it is measured; what is measured stands beside this package."""
