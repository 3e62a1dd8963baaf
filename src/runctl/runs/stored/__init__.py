"""What a run has at its prefix in an object store, and here, for whoever carries it on."""
