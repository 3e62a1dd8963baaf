"""Lyceum AI's API on this computer: its VMs are machines of the sandbox.

The numbers in brackets are sections of Lyceum's API as its vendor's tool, its pages and live captures describe it; what
is not certain can be switched (`runctl.sandbox.lyceum.account.Behaviour`).
"""
