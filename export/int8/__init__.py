"""INT8 graphs and what they cost."""
