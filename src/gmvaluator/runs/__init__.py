"""Saved valuations: a run folder goes in, a `Valuation` with its typed record comes out, and back.

`valuation`: the result. `record`: run.json. `tables`: the Parquet files. `folder`: an opened run.
`images`: the images of one side. `verify`: checks. `derived`: files that other commands add.
`distribution`, `formatting`, `plots`: values for people. Nothing is imported here, because the
command line starts with this package.
"""
