r"""
Enhance a map
=============

A coarse map in, a map four times finer out, with a network that ships. Nothing is trained.

On the command line this is one line, for GeoTIFF, NetCDF, BAG, S-102 and plain arrays::

    python main.py predict --pretrained bathymetry_x4 map.tif --report

The same from Python, on ground whose fine relief is known.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from matplotlib.colors import LightSource

from toolbox import load_model
from toolbox.resample import block_mean, enlarge

# %%
# An elevation model that comes with Matplotlib (metres), averaged over 4 × 4 pixels: what a
# coarser survey would have seen.

with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
    truth = file["elevation"][:320, :400].astype(np.float32)[None, ..., None]
coarse = block_mean(truth, 4)
print(f"input {coarse.shape[1:3]} pixels, result {truth.shape[1:3]}")

# %%
# ``predict`` takes maps of any size. Metres go in and metres come out.

model = load_model("bathymetry_x4")
fine = model.predict(coarse)
bicubic = enlarge(coarse, 4)
for name, result in {"bicubic": bicubic, "network": fine}.items():
    print(f"{name}: RMSE {np.sqrt(np.mean((result - truth) ** 2)):.2f} m")

# %%
# The network learned from sea floors; this is a mountain. It has never seen the place, and is
# better than bicubic all the same. How far to trust it on your map is the subject of
# :doc:`plot_04_trust`.

light = LightSource(315, 40)
panels = {"input": coarse, "bicubic": bicubic, "network": fine, "truth": truth}
fig, axes = plt.subplots(2, 2, figsize=(8, 6.6), layout="constrained")
for ax, (name, image) in zip(axes.flat, panels.items(), strict=True):
    z = image[0, ..., 0]
    step = 90 if z.shape == truth.shape[1:3] else 360
    ax.imshow(light.shade(z, plt.cm.gist_earth, blend_mode="soft", vert_exag=2, dx=step, dy=step))
    ax.set(title=name, xticks=[], yticks=[])
plt.show()
