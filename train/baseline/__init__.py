"""The public program restated, to compare with."""
