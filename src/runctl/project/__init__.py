"""What is on the user's disk: the project's root, what belongs to it, what it needs, and its way to a machine."""
