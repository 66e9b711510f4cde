"""Every file of a run, its writer beside its reader."""
