"""A run that was interrupted goes on on another machine: found out, rented, started, and watched until its end."""
