"""What a run leaves behind and shows: curves, progress, the state it goes on from."""
