"""Which networks there are, and building one."""
