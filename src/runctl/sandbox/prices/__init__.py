"""What the sandbox's AWS asks for what it rents out, and the bill for it."""
