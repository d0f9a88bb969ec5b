"""The authors' KnowSAM as they ran it, bug for bug: what `parity` checks and the method `official` trains.

Everything here departs from the taught code on purpose, each time by a subclass or a loss of its own, so
that the taught code needs no switch. Defects around the training are left out, for they change nothing that
a sound run computes: their prediction builds a U-Net into which their own checkpoints do not load, their
loops keep anomaly detection on and graphs in validation, and their loader can leak unlabelled masks where a
folder is smaller than a table says.
"""
