"""The use case ``train``."""
