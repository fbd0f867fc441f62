"""Wait for a task."""
