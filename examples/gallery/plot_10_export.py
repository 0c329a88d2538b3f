r"""
Export, and use it elsewhere
============================

You can export a network as ONNX, SavedModel, Keras or TFLite. The normaliser is included, so input
and output are in metres. An ONNX file needs no Keras where it is used. For your own run: ``python
main.py log/ export --format onnx``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from matplotlib import cbook

from sr_trainer.main import main
from toolbox import load_model

work = Path(tempfile.mkdtemp())

# %%
# Export. Every export is compared with the original network before it is written, and comes with
# a model card.

file = work / "bathymetry_x2.onnx"
main(["export", "--pretrained", "bathymetry_x2", "--format", "onnx", "-o", str(file)])
print(
    *sorted(f"{path.name}: {path.stat().st_size / 1000:.0f} kB" for path in work.iterdir()),
    sep="\n",
)

# %%
# Use it elsewhere, here in ONNX Runtime. The same file runs from C++, C#, Java, Rust or a browser.

with cbook.get_sample_data("jacksboro_fault_dem.npz") as data:
    coarse = data["elevation"][None, :96, :128, None].astype(np.float32)
session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
(fine,) = session.run(None, {session.get_inputs()[0].name: coarse})

# %%
# The results agree with those of the toolbox.

inside = load_model("bathymetry_x2").predict(coarse)
print(f"largest difference {np.abs(fine - inside).max():.1e} m")

fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for ax, (name, image) in zip(
    axes, {"in": coarse, "out of ONNX Runtime": fine}.items(), strict=True
):
    ax.imshow(image[0, ..., 0], "gist_earth")
    ax.set_title(f"{name}, {image.shape[1]} × {image.shape[2]}")
plt.show()
