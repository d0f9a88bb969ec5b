"""The authors' KnowSAM as they ran it, bug for bug: what `parity` checks and the method `official` trains.

Everything here differs from the taught code on purpose, each time in a subclass or a separate loss, so that
the taught code needs no switch. Defects outside the training step are left out, because they do not change
what a correct run computes: their prediction builds a U-Net that cannot load their own checkpoints, their
loops keep anomaly detection on and graphs in validation, and their loader can leak unlabelled masks if a
folder is smaller than a table says.
"""
