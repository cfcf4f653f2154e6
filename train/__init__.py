"""Training: networks, data, LoRA, recipes, the loop. Imports `edge`, never `export`."""
