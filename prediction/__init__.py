"""Images in, probabilities out: all that serving needs."""
