"""What things cost: prices and limits as plain data. Knows nothing of ours but core."""
