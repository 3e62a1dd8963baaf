"""runctl's commands, and sandboxes, as processes that are forked from one which has imported everything.

Commands are most of what a test through the command line costs, and the imports most of a command; a sandbox's server
takes longer still to start. One process (`server`) for all tests of this process has imported both, and forks what it
is asked for: a command (`client.run`, `client.start`), one that is called from a shell (`client.on_path`), a sandbox
(`client.sandbox`). Each is a process of its own, with its folder, variables and descriptors, and ends as the program
does; signals reach it.

What a start itself does is asked of the installed program: by some of the documentation's pages and the README's five
minutes, by ``tests/cli/test_main.py``, and of a sandbox by ``tests/sandbox/test_crash.py``.
"""
