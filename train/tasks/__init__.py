"""What a network learns from what: `task.Task`, once per kind of data."""
