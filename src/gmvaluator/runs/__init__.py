"""Saved valuations: a run folder goes in, a `Valuation` with its typed record comes out, and back.

`valuation`: the result. `own_scores`: scores of another program. `record`: run.json; `schema`:
checks of its types. `tables`: the Parquet files. `folder`: an opened run. `images`: the images of
one side. `join`: two runs as one. `matches`: contributors, quality and copies of each picture.
`reweighing`: other weightings of one run. `derived`: files that other commands add. `verify`:
checks. `ranking`: ranks, and what is equally low. `hubs`: images that contribute to very many.
`distribution`, `formatting`, `plots`: values for people. Nothing is imported here, because the
command line starts with this package.
"""
