r"""
Enlarge photographs
===================

This enlarges your own photograph, or a folder of them. Metadata, colour profile and transparency
are kept::

    python main.py predict --pretrained photo_x2 photo.jpg
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

from sr_trainer.main import main
from toolbox.tasks.photo.measure import brightness, enlarged, psnr

work = Path(tempfile.mkdtemp())

# %%
# The picture shows Chelsea, a cat that ships with scikit-image and was not in the training data.
# The input has half its size.

truth = data.chelsea()[:300, :450]
low = np.asarray(Image.fromarray(truth).resize((225, 150), Image.Resampling.BICUBIC))
Image.fromarray(low).save(work / "cat.png")
main(["predict", "--pretrained", "photo_x2", str(work / "cat.png")])
network = np.asarray(Image.open(work / "cat_x2.png"))

# %%
# This is the PSNR of the brightness, with two pixels left out at each side, alongside bicubic and
# Lanczos. A test on a folder of photographs reports the same; see :doc:`/photographs`.

results = {**enlarged(low, 2), "network": network}
for name, image in results.items():
    inner = [brightness(each)[2:-2, 2:-2] for each in (truth, image)]
    print(f"{name:10} {psnr(*inner):.2f} dB")

# %%
# This is a detail of the pictures.

part = slice(70, 190), slice(120, 260)
panels = {"bicubic": results["bicubic"], "network": network, "truth": truth}
fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, (name, image) in zip(axes, panels.items(), strict=True):
    ax.imshow(np.clip(image, 0, 255).astype(np.uint8)[part])
    ax.set(title=name, xticks=[], yticks=[])
plt.show()
