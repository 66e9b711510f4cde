"""Charts, pages and what results rest on."""
