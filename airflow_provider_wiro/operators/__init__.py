"""Order, and fetch."""
