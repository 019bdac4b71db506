"""What retraining says: generators trained without some images, and what becomes of them.

`datamodeling`: LDS of valuers. `ground_truth`, `losses`: what models trained on subsets say of an
image. `groups`: subsets of groups of images. `truth_file`: all of it as one file. `removal`,
`likeness`, `movement`: models without some images, and what changes in the images they draw.
`retraining`: trained models, one file each. `snapshots`: of a training.
"""
