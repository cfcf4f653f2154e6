"""Programs that measure, each for a table or plot of `docs/`: they need a clone, for no wheel has them."""
