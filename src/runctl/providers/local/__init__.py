"""This computer, as if it were rented."""
