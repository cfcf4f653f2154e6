"""Networks in their public layouts, adapters, checkpoints."""
