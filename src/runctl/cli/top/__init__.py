"""``top``: a dashboard in the terminal."""
