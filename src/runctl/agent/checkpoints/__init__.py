"""What a run saves and goes on from: which checkpoints are complete, which is newest, and how a store holds them.

`formats` and `folders` judge files and folders without importing what wrote them, `choosing` finds the newest complete
one, `resume` tells the script, and `layout` describes a run's prefix in a store.
"""
