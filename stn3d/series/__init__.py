"""Motion correction of a 4D series."""
