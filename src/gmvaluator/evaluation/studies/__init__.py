"""The studies by name: a context goes in, a `StudyResult` of tables and plots comes out.

The table `STUDIES` says which file has a study; `planted_tables` has the tables of `planted`. A new
study is one file here, one line in `STUDIES`, its checks in `evaluation.checks`, and its options in
`cli/evaluate.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gmvaluator.certainty.tables import StudyResult


class Study(NamedTuple):
    """A study's place in the code, and its question in one sentence."""

    place: str  # module:function
    about: str

    def load(self) -> Callable[..., StudyResult]:
        """The function that runs the study."""
        module, _, function = self.place.partition(":")
        run: Callable[..., StudyResult] = getattr(
            importlib.import_module(f"{__name__}.{module}"), function
        )
        return run


STUDIES: Mapping[str, Study] = MappingProxyType(
    {
        "c1": Study(
            "identical_class:identical_class",
            "Identical class: do contributors have the generated image's class?",
        ),
        "c2": Study(
            "identical_attributes:identical_attributes",
            "Identical attributes: do contributors share its attributes?",
        ),
        "c3": Study(
            "out_of_distribution:out_of_distribution",
            "Out of distribution: do noised training images rank low?",
        ),
        "c4": Study(
            "efficiency:efficiency", "Efficiency: seconds of each stage, everything computed anew."
        ),
        "encoders": Study(
            "identical_class:identical_class",
            "Appendix G: identical class for each encoder, without re-rank.",
        ),
        "distances": Study(
            "identical_class:identical_class",
            "Appendix H: identical class for each re-rank distance.",
        ),
        "two-subsets": Study(
            "two_subsets:two_subsets",
            "Appendix D: do images that the generator saw get higher values?",
        ),
        "images-needed": Study(
            "images_needed:images_needed",
            "Appendix F: how do values settle as more images are generated?",
        ),
        "calibration": Study(
            "calibration:calibration",
            "Appendix I: what does quality change when some images are bad?",
        ),
        "temperature": Study(
            "temperature:temperature", "How does every criterion move with the temperature?"
        ),
        "growth": Study(
            "efficiency:growth", "Appendix O: seconds of each stage as the training set grows."
        ),
        "pq": Study(
            "index_choice:index_choice",
            "Appendix P: compressed against exact search, time and result.",
        ),
        "lds": Study("lds:lds", "Counterfactual truth: do scores predict what retraining does?"),
        "spaces": Study("spaces:spaces", "Which representations predict what retraining does?"),
        "counterfactual": Study(
            "counterfactual:counterfactual",
            "Does the model change without its most valuable training images?",
        ),
        "planted": Study(
            "planted:planted", "Known sources: are they found, and are the shares right?"
        ),
        "audit": Study(
            "audit:audit", "Near copies: does an audit find altered copies and nothing else?"
        ),
        "strangers": Study(
            "strangers:strangers", "Images without a source: does the test of --null find them?"
        ),
    }
)
