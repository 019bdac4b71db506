"""What a study attributes: generators to train, the images they draw, and readers of these.

`subject`: labelled generated images. `recipes`: generators to train. `classifier`, `attributes`:
readers of class and attributes.
"""
