"""What the agent costs, beside what others cost: run `make bench`."""
