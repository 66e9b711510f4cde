"""What every other package may use; needs the standard library alone."""
