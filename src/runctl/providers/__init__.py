"""Who rents out machines, behind one interface."""
