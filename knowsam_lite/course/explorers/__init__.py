"""Explorers: interactive pictures, one file each; where widgets do not run, a few settings side by side."""
