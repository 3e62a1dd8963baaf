"""``runctl resources``: what runctl has with providers, what it costs, and what can go."""
