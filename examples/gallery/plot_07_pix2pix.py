r"""
Pictures from pictures
======================

pix2pix learns to draw one picture from another: here, classes in their colours from a photograph.
With data in the layout of Pascal VOC, or with your own pairs, it takes two commands::

    python main.py examples/pix2pix_voc/shapes.yml train --baselines
    python main.py examples/pix2pix_voc/shapes.yml test
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from examples.pix2pix_voc import generate
from toolbox.tasks.pix2pix.classes import voc_classes
from toolbox.tasks.pix2pix.measure import class_figures, confusion

work = Path(tempfile.mkdtemp())

# %%
# The pairs are shapes drawn by a program, in the layout of VOC 2012. With your own pairs,
# ``pairs/input/`` and ``pairs/target/`` hold pictures with the same names, and the source is
# ``picture_pairs``.

generate.main([str(work), "--train", "6", "--val", "3"])
folder = work / "VOCdevkit/VOC2012"
names = sorted(path.stem for path in (folder / "JPEGImages").iterdir())[:4]
pictures = [np.asarray(Image.open(folder / f"JPEGImages/{name}.jpg")) for name in names]
masks = [np.asarray(Image.open(folder / f"SegmentationClass/{name}.png")) for name in names]

# %%
# The network learns to draw the lower row from the upper one.

classes = voc_classes()
fig, axes = plt.subplots(2, 4, figsize=(9, 4), layout="constrained")
for column, picture, ids in zip(axes.T, pictures, masks, strict=True):
    column[0].imshow(picture)
    column[1].imshow(classes.encode(ids))
    for ax in column:
        ax.axis("off")
plt.show()

# %%
# To judge a result, its colours are decoded to the nearest class, and pixels are counted. A
# network must at least beat the most frequent class everywhere.

judged = np.concatenate([ids[ids != generate.VOID] for ids in masks])
counts = confusion(judged, np.zeros_like(judged), len(classes))
print({k: f"{v:.3f}" for k, v in class_figures(counts).items() if np.isscalar(v)})

# %%
# Training takes five and a half minutes on two cores, so this is a committed result of ``make
# pix2pix``: input, drawing, decoded drawing, two baselines, truth. The table is in
# :doc:`/pix2pix`.

fig = plt.figure(figsize=(9, 5.6), layout="constrained")
ax = fig.add_subplot()
ax.imshow(plt.imread("../../docs/_static/pix2pix.png"))
ax.axis("off")
plt.show()
