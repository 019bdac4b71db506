"""The order of the stages: from images to a Valuation.

`train`: fits training images. `trained`: what fitting gives. `value`: values generated images.
`match`: compares images with the training set. `null_sample`: images known to have no source.
`strangeness`: how strange images are to the training set. `domain`: what small pictures of the
training set look like.
`context`: settings, networks and memory. `index_folder`: a saved index; `kept_results` and
`kept_vectors`: what it keeps for later pictures. `reload`: settings and images of an index or run.
`timing`: seconds by stage.
"""
