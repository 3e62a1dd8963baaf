"""What ends a machine at its limits, whoever watches: a small daemon of its own, started at the first boot and at every
later one. It imports nothing else of the agent: user data carries it to machines that have nothing of ours yet."""
