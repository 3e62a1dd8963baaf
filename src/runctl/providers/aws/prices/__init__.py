"""What AWS asks for what runctl rents: asked for seldom, kept for a while, with a shipped list to fall back on."""
