"""The use case ``launch``: a machine rented, a run on it, and the machine given back."""
