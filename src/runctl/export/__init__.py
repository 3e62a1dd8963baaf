"""What runctl has, written for other tools."""
