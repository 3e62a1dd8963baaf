"""``runctl export``: what runctl has, or would do, written for other tools."""
