"""How every page looks and reads: one style, one base template, and the texts in two languages."""
