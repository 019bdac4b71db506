"""Valuers to compare with: what chance, labels and published rivals give.

`trivial`: chance and labels. `nda`, `trak`, `vae_tracin`, `if4gan`: the rivals; files beside them
begin with the same word, and `gan_` is for IF4GAN. Shared by valuers by gradients:
`influence_valuer`, `functionals`, `sample_gradients`, `projection`, `partial_sums`, `proponents`.
Shared by all: `reading`, `checks`, `assembling`.
"""

from gmvaluator.baselines.trivial import RandomValuer, SameClassValuer

__all__ = ["RandomValuer", "SameClassValuer"]
