"""How far float32 itself moves the norms of a training trace on this machine.

A training step has edges: a LeakyReLU changes slope at 0, a max-pooling takes one of two nearly equal values.
Which side a value that lies within rounding of an edge takes depends on the processor, the number of threads
and the version of PyTorch, and one such value among a million moves a gradient's norm by a thousandth. The
authors' norms were recorded in float32 and carry this accident. So does our float32; the same trace in
float64 does not, and the distance between the two measures it.
"""

from collections.abc import Mapping

FACTOR = 3.0  # the recorded norms may lie this many times as far from ours as ours from float64's
NOISE = (
    0.1  # a norm that float64 changes by more than this part is nothing but rounding (its true value is 0)
)

Norms = Mapping[str, float]


def network(parameter: str) -> str:
    """The part of the model that a parameter belongs to: "VNet.block_one.conv.0.weight" -> "VNet"."""
    return parameter.split(".")[0]


def floors(found: Norms, exact: Norms) -> dict[str, float]:
    """The largest relative distance of float32 from float64, for each network.

    `found`, `exact`: norm of each parameter in float32 and in float64.
    """
    largest: dict[str, float] = {}
    for parameter, norm in found.items():
        distance = abs(norm - exact[parameter])
        share = distance / norm if norm > 0 else 0.0
        largest.setdefault(network(parameter), 0.0)
        if share <= NOISE:
            largest[network(parameter)] = max(largest[network(parameter)], share)
    return largest


def allowed(found: Norms, exact: Norms) -> dict[str, float]:
    """How far, absolutely, each parameter's recorded norm may lie from ours by rounding alone.

    FACTOR times the floor of its network, or the parameter's own distance where that is larger.
    """
    floor = floors(found, exact)
    return {p: FACTOR * max(abs(norm - exact[p]), norm * floor[network(p)]) for p, norm in found.items()}
