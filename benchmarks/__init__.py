"""The numbers of docs/benchmarks.md: ours and a named peer, measured in one run, as a ratio."""
