"""The order of the stages: from images to a Valuation.

`train`: fits training images. `trained`: what fitting gives. `value`: values generated images.
`match`: compares images with the training set. `null_sample`: images known to have no source.
`domain`: images beyond the domain of the training images.
`context`: settings, networks and memory. `index_folder`: a saved index. `reload`: settings and
images of an index or run. `timing`: seconds by stage.
"""
