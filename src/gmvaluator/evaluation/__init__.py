"""The criteria and studies that valuers are judged by.

`studies`: one file a study. `study`: what a study is given. `setup`: from names to that. `named`,
`valuers`, `gradient_valuers`, `scores_file`, `representations`, `traced_gan`: what is judged.
`checks`: what is known before a study works. `metrics`: the criteria. `subjects`: generated images
to attribute. `truth`: retraining. `planted`: known sources. `layout`: tables and plots.
`reproduction`, `paper`: the paper's studies and figures. `workers`: processes.
"""
