"""What a run saves and goes on from: which checkpoints are complete, which is newest, and how a store holds them.

`formats` and `folders` judge files and folders without importing what wrote them, `choosing` finds the newest complete
one, `resume` tells the script, `layout` describes a run's prefix in a store, `stores` reaches it, `publisher` copies
there what is new, `restoring` brings it back, and `schedule` says how often a checkpoint is worth its time.
"""
