"""Everything that runctl has made in an account: listed in all regions side by side, and removed one by one."""
