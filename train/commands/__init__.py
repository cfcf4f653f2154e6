"""The commands that `train` adds to `samedge`."""
