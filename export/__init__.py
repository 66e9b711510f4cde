"""Writing an exported model, and proving it."""
