"""What the figures in the documentation come from; see README.md in this folder."""
