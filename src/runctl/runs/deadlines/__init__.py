"""Runs that must have ended by a time: planned, and held against what they have done."""
