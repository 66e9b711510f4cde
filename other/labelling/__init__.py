"""The page on which photos are sorted and their labels corrected."""
