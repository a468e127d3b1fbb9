"""What the agent says: metrics, spans and log lines from one catalogue."""
