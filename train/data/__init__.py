"""From folders of cases to samples: reading, cache, drawing, cutting, augmenting."""
