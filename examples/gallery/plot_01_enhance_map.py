r"""
Enhance a map
=============

Turn a coarse map into one four times finer, with a network that ships. No training is needed.

On the command line this takes one line, for GeoTIFF, NetCDF, BAG, S-102 and plain arrays::

    python main.py predict --pretrained bathymetry_x4 map.tif --report

This page does the same from Python, on terrain whose fine relief is known.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from matplotlib.colors import LightSource

from toolbox import load_model
from toolbox.resample import block_mean, enlarge

# %%
# The input is an elevation model that ships with Matplotlib (metres), averaged over 4 × 4 pixels.
# This is what a coarser survey would have seen.

with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
    truth = file["elevation"][:320, :400].astype(np.float32)[None, ..., None]
coarse = block_mean(truth, 4)
print(f"input {coarse.shape[1:3]} pixels, result {truth.shape[1:3]}")

# %%
# ``predict`` takes maps of any size. Input and output are in metres.

model = load_model("bathymetry_x4")
fine = model.predict(coarse)
bicubic = enlarge(coarse, 4)
for name, result in {"bicubic": bicubic, "network": fine}.items():
    print(f"{name}: RMSE {np.sqrt(np.mean((result - truth) ** 2)):.2f} m")

# %%
# The network was trained on sea floors, and this is a mountain that it has never seen. It is
# better than bicubic all the same. :doc:`plot_04_trust` shows how far to trust it on your map.

light = LightSource(315, 40)
panels = {"input": coarse, "bicubic": bicubic, "network": fine, "truth": truth}
fig, axes = plt.subplots(2, 2, figsize=(8, 6.6), layout="constrained")
for ax, (name, image) in zip(axes.flat, panels.items(), strict=True):
    z = image[0, ..., 0]
    step = 90 if z.shape == truth.shape[1:3] else 360
    ax.imshow(light.shade(z, plt.cm.gist_earth, blend_mode="soft", vert_exag=2, dx=step, dy=step))
    ax.set(title=name, xticks=[], yticks=[])
plt.show()
