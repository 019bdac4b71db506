"""Saved valuations: a run folder goes in, a `Valuation` with its typed record comes out, and back.

`valuation`: the result. `record`: run.json. `tables`: the Parquet files. `folder`: a run opened with
its images. `images`: the images of one side. `verify`: checks. `derived`: files of other commands.
`distribution`, `formatting`, `plots`: values for people. Nothing is imported here: the command line
starts with this package.
"""
