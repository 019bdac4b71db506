"""Weights of networks: from a name to a verified local file. Only this room uses the network.

`registry`: the table of names, addresses, digests and licences. `resolve`: from a name to a file.
`arrays`: the arrays of a file, without torch. `download`: the network code.
"""

from gmvaluator.weights.resolve import (
    LocalWeightFile,
    WeightFile,
    Weights,
    load_state,
    load_strict,
    weights_digest,
)

__all__ = [
    "LocalWeightFile",
    "WeightFile",
    "Weights",
    "load_state",
    "load_strict",
    "weights_digest",
]
