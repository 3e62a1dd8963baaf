"""What this computer remembers of its runs."""
