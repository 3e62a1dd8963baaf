"""RunPod's API on this computer: its pods are containers of their images, or, without Docker, machines of the sandbox.

The numbers in brackets are sections of RunPod's API, version 2, as its own pages and those who use it describe it; what
is not certain can be switched (`runctl.sandbox.runpod.account.Behaviour`).
"""
