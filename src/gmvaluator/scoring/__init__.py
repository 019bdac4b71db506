"""Scores: from contributors and quality to contribution scores and values.

`quality`: q_j of generated images. `weightings`: shares of contributors, one file a weighting.
`scores`: contribution scores and values. `conformal`: the test for images without a source.
"""
