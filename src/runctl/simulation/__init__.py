"""Replays of spot capacity as it was, or as statistics say, to see what each policy would have cost."""
