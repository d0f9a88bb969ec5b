"""The authors' KnowSAM as they ran it, bug for bug: what `parity` checks and the method `official` trains.

Everything here differs from the taught code on purpose, each time in a subclass or a separate loss, so that
the taught code needs no switch. What differs:

- Entropy (`losses`): divided by log 2 whatever C is, its weight 0.9 from the first step; the taught one is
  divided by log C and rises with w(t).
- Consistency (`losses`): of the last class alone, and subnet B learns nothing from A.
- SKD (`losses`): over rows of two numbers, which are pixels only for C = 2.
- Dice (`losses`): smoothing 1e-10, so an absent class costs 1; the taught code has 1e-5.
- w(t) (`losses`): rises in 200 equal steps.
- UGDA (`losses`, `method`): takes the most certain cells; the taught code the most uncertain ones.
- HAM (`students`): certainty in natural units, and a BatchNorm and a LeakyReLU after its last convolution.
- SAM (`teacher`): 32 of ViT-B's 314 tensors dropped (relative positions, the decoder's MLPs), no mean and
  standard deviation, adapters and prompts from random weights, residuals and positions of the decoder
  changed, and the raw logit of a class as its mask prompt.

Defects outside the training step are left out, because they do not change
what a correct run computes: their prediction builds a U-Net that cannot load their own checkpoints, their
loops keep anomaly detection on and graphs in validation, and their loader can leak unlabelled masks if a
folder is smaller than a table says.
"""
