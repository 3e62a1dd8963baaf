"""A run that goes on with no computer watching it: its group made, its machine found, all of it ended."""
