"""What of a project is Docker's: its Dockerfile, its Compose file and its build context."""
