r"""
Adapt to a steeper region
=========================

Fine maps often cover gentle terrain, while the region to enhance is steeper. Adaptive Mixup picks
and mixes training pairs whose slopes follow those of the target, and needs only its coarse map. On
the command line: ``python -m sr_dataset_builder.adapt adapt.yml``. All keys are in
:doc:`/adaptation`.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook

from sr_dataset_builder import adapt, dataset
from toolbox.data_loader import load_images
from toolbox.tasks.bathymetry.terrain import mean_slope_gradient

work = Path(tempfile.mkdtemp())

# %%
# The data are two parts of one elevation model: fine data of the gentle east, and a coarse map of
# the steep west.

with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
    ground = file["elevation"].astype(np.float32)
np.save(work / "gentle.npy", ground[:, 160:])
np.save(work / "steep.npy", ground[:340, :160].reshape(85, 4, 40, 4).mean((1, 3)))
build = f"""\
hr_fname: {work}/gentle.npy
delta_hr_m: 90
save_dir: {work}/pairs
block_shape: [5, 5]
lr_img_shape: [8, 8]
lr_stride: [2, 2]
validation_size: 0.2
test_size: 0.2
"""
(work / "build.yml").write_text(build)
dataset.main([str(work / "build.yml")])

# %%
# Adapt: pairs are rotated, mirrored and mixed, then picked so that their slopes follow the
# target's.

settings = f"""\
data_dir: {work}/pairs
save_dir: {work}/adapted
target: {work}/steep.npy
target_delta_m: 360
target_stride: [2, 2]
angles: [90, 180, 270]
pick_number: 400
"""
(work / "adapt.yml").write_text(settings)
adapt.main([str(work / "adapt.yml")])

# %%
# Left: slopes of the training pairs before and after. Right: the gain, shown as RMSE on the steep
# half of two real sea floors. These are committed results
# (``examples/bathymetry/adaptive_mixup``), because training takes 25 minutes.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name in ("pairs", "adapted"):
    lr = load_images(next((work / name / "train").glob("data_LR.[np]*")))
    slopes = np.ravel(mean_slope_gradient(lr, (360, 360)))
    left.hist(slopes, np.linspace(0, 0.2, 40), alpha=0.6, density=True, label=name)
left.set(xlabel="mean slope of a pair (m/m)", yticks=[])
left.legend()
rows = json.loads(Path("../bathymetry/adaptive_mixup/results.json").read_text())
rows = [row for row in rows if row["normalizer"] == "local_mean" and row["grid"] != "fractal"]
methods = {"none": "plain", "flips_rotations": "turned", "mixup": "mixup", "stretch": "stretched"}
rows = [row for row in rows if methods.keys() <= row["rmse_m"].keys()]
for number, row in enumerate(rows):
    values = [row["rmse_m"][name]["all"]["mean"] for name in methods]
    right.bar(np.arange(4) + 0.4 * number, values, 0.38, label=row["grid"].replace("_", " "))
right.set_xticks(np.arange(4) + 0.2, methods.values())
right.set_ylabel("RMSE on the steep half (m)")
right.legend(loc="lower left")
plt.show()
