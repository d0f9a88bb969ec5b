"""How often a difference that is none is called one, by seeds and by how much they vary, against 5 % meant.

python tests/extra/false_claims.py --draws 400
"""

import argparse

import numpy as np

from knowsam_lite.compare.verdicts import LEVEL
from knowsam_lite.metrics import crossed, paired_bootstrap

IMAGES = 150
OF_IMAGES, LEFT = 0.04, 0.085  # standard deviations of a difference: of an image, and of a seed's image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    rng = np.random.default_rng(0)
    print("seeds  they vary by  crossed  bootstrap")
    for seeds in (2, 3, 5):
        for spread in (0.0, 0.01, 0.02, 0.04):
            called = np.zeros(2)
            for _ in range(draws):
                delta = rng.normal(0, spread, (seeds, 1)) + rng.normal(0, OF_IMAGES, (1, IMAGES))
                delta = delta + rng.normal(0, LEFT, (seeds, IMAGES))
                called += crossed(delta).p < LEVEL, not paired_bootstrap(delta, np.zeros_like(delta))["tie"]
            print(f"{seeds:<6} {spread:<13} {called[0] / draws:<8.3f} {called[1] / draws:.3f}", flush=True)


if __name__ == "__main__":
    main()
