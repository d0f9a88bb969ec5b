"""Explorers: pictures with knobs, one file each; where no knob can be turned, a few settings side by side."""
