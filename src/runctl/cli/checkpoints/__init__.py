"""``runctl checkpoint``: checkpoints of a run, of a folder here or on an instance, or in an object store."""
