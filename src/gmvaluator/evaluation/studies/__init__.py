"""The studies by name: a context goes in, a `StudyResult` of tables and plots comes out.

A new study is one file here, one line in `STUDIES`, and its options in `cli/evaluate.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gmvaluator.certainty.tables import StudyResult


class Study(NamedTuple):
    """Where a study is, and one sentence on what it asks."""

    place: str  # module:function
    about: str

    def load(self) -> Callable[..., StudyResult]:
        """The function that runs it."""
        module, _, function = self.place.partition(":")
        run: Callable[..., StudyResult] = getattr(
            importlib.import_module(f"{__name__}.{module}"), function
        )
        return run


STUDIES: Mapping[str, Study] = MappingProxyType(
    {
        "c1": Study(
            "identical_class:identical_class",
            "Identical class test: do contributors have the class of the generated image?",
        ),
        "c2": Study(
            "identical_attributes:identical_attributes",
            "Identical attributes test: do contributors share the generated image's attributes?",
        ),
        "c3": Study(
            "out_of_distribution:out_of_distribution",
            "Out-of-distribution detection: do noised training images rank low?",
        ),
        "c4": Study(
            "efficiency:efficiency", "Efficiency: seconds by stage, everything computed anew."
        ),
        "encoders": Study(
            "identical_class:identical_class",
            "Appendix G: the identical class test, an encoder a row, without re-rank.",
        ),
        "distances": Study(
            "identical_class:identical_class",
            "Appendix H: the identical class test, a re-rank distance a row.",
        ),
        "two-subsets": Study(
            "two_subsets:two_subsets",
            "Appendix D: are images that the generator saw valued higher than others?",
        ),
        "images-needed": Study(
            "images_needed:images_needed",
            "Appendix F: how values settle as more images are generated.",
        ),
        "calibration": Study(
            "calibration:calibration",
            "Appendix I: what the quality of generated images changes when some are bad.",
        ),
        "temperature": Study(
            "temperature:temperature",
            "How every criterion moves with the temperature of the softmax.",
        ),
        "growth": Study(
            "efficiency:growth", "Appendix O: seconds by stage as the training set grows."
        ),
        "pq": Study(
            "index_choice:index_choice",
            "Appendix P: product quantization against exact search, in time and in result.",
        ),
        "lds": Study(
            "lds:lds",
            "Counterfactual truth: do scores predict what retraining on random halves does?",
        ),
        "spaces": Study(
            "spaces:spaces", "The right space: which representations predict what retraining does?"
        ),
        "counterfactual": Study(
            "counterfactual:counterfactual",
            "Does it change the model when its most valuable training images are removed?",
        ),
        "planted": Study(
            "planted:planted",
            "Known sources: are they found, and do scores and owners' shares tell the truth?",
        ),
        "audit": Study(
            "audit:audit",
            "Near copies: does an audit find altered copies, and leave held-out images alone?",
        ),
        "strangers": Study(
            "strangers:strangers",
            "Images without a contributor: are strangers recognised, and real new images kept?",
        ),
    }
)
