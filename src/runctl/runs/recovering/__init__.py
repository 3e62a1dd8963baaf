"""A run that was interrupted continues on another machine: found out, rented, started, and watched until its end."""
