"""The four SAM papers' systems: networks, maps and sequences, folds and search."""
