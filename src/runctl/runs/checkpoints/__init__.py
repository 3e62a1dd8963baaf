"""Checkpoints of runs, folders and stores: found, verified, fetched, put back, pruned, and resumed from."""
