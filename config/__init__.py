"""Every option, once."""
