r"""
How far to trust a result
=========================

An enlarged map raises two questions: between which limits does the truth lie, and which detail was
invented? The limits need no truth, and any prediction can include them::

    python main.py predict --pretrained bathymetry_x4 map.tif --interval 0.9 --range-mask --report

Invented detail can be counted where the truth is known, as here: an elevation model that ships
with Matplotlib, lowered by 3000 m. A test does this automatically.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib import cbook

from sr_trainer.main import main
from toolbox import load_model
from toolbox.pretrained import pretrained_folder
from toolbox.resample import back_project, block_mean, enlarge
from toolbox.tasks.bathymetry.detail import detail_figures, detail_table, noise_limit_m
from toolbox.tasks.bathymetry.intervals import load_intervals

work = Path(tempfile.mkdtemp())
with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
    truth = file["elevation"][:320, :400].astype(np.float32)[None, ..., None] - 3000
coarse = block_mean(truth, 4)

# %%
# First: is the map fit to be enlarged? It is written as a GeoTIFF, so that its pixels have a
# size. ``python main.py inspect map.tif --pretrained bathymetry_x4``

grid = {"transform": rasterio.transform.from_origin(5e5, 4e6, 360, 360), "crs": "EPSG:32616"}
size = {"height": coarse.shape[1], "width": coarse.shape[2], "count": 1, "dtype": "float32"}
with rasterio.open(work / "map.tif", "w", driver="GTiff", **grid, **size) as file:
    file.write(coarse[0, ..., 0], 1)
main(["inspect", str(work / "map.tif"), "--pretrained", "bathymetry_x4"])

# %%
# The intervals were calibrated on validation maps when the model was trained. They should contain
# 90 % of the truth on terrain like that of the training data. This mountain is far steeper than
# those sea floors, so count.

fine = load_model("bathymetry_x4").predict(coarse)
intervals = load_intervals(pretrained_folder("bathymetry_x4"))
half = intervals.multiple(0.9) * intervals.spread(coarse[..., 0], fine[..., 0])
error = np.abs(fine - truth)[..., 0]
print(
    f"half-width {half.mean():.1f} m on average; {np.mean(error <= half):.0%} of the truth inside"
)

# %%
# Detail that the plain map lacks is *improved*, *omitted* or *hallucinated* (it went elsewhere).
# :doc:`/how_we_measure` explains the three shares and the metres.

plain, limit_m = back_project(enlarge(coarse, 4), coarse), noise_limit_m(truth)
print(detail_figures(detail_table(truth, plain, fine, limit_m)).T.round(2).to_string(header=False))

# %%
# The maps show where this happens. The limits are wide where the network is wrong.

differs = np.abs(truth - plain)[0, ..., 0] > limit_m
better = (np.abs(truth - fine) < np.abs(truth - plain))[0, ..., 0]
kind = np.where(differs, np.where(better, 1.0, 2.0), 0.0)
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
panels = {"half-width of 90 % (m)": half[0], "absolute error (m)": error[0]}
for ax, (name, image) in zip(axes, panels.items(), strict=False):
    fig.colorbar(ax.imshow(image, "magma", vmin=0, vmax=40), ax=ax, shrink=0.8)
    ax.set(title=name, xticks=[], yticks=[])
axes[2].imshow(kind, plt.matplotlib.colors.ListedColormap(["#eeeeee", "#3b9eab", "#c0392b"]))
axes[2].set(title="blue: better, red: worse than plain", xticks=[], yticks=[])
plt.show()
