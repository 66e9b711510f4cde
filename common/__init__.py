"""What every other package may use; the standard library and NumPy alone."""
