r"""
Search for better settings
==========================

You have settings that train, and want to know which learning rate or loss is best. Name the
ranges, and let Optuna try them. On the command line:
``python -m sr_trainer.optuna_search search.yml``. Run the same line on many machines to share the
work; after Ctrl-C it resumes. All keys are in :doc:`/hyperparameters`.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from sr_dataset_builder import dataset
from sr_trainer import optuna_search

work = Path(tempfile.mkdtemp())

# %%
# Any settings file can be the base; this tiny one is made for this page.

build = f"""\
hr_fname: sample:jacksboro_fault_dem.npz
save_dir: {work}/pairs
block_shape: [4, 5]
lr_stride: [4, 4]
"""
(work / "build.yml").write_text(build)
dataset.main([str(work / "build.yml")])
base = f"""\
data_dir: {work}/pairs
model: espcn
normalizer: local_mean
bicubic_skip: true
epochs: 3
"""
(work / "base.yml").write_text(base)

# %%
# The parameters can be any keys of the base, in dotted form.

search = f"""\
base: {work}/base.yml
search_dir: {work}/search
parameters:
  learning_rate: {{low: 1.0e-4, high: 1.0e-2, log: true}}
  loss: [mae, mse]
objective: val_psnr
trials: 4
"""
(work / "search.yml").write_text(search)
optuna_search.main([str(work / "search.yml")])

# %%
# ``best.yml`` is ready to train, ``report.html`` shows the search, and ``trials.csv`` has every
# trial.

trials = pd.read_csv(work / "search/trials.csv")
print(trials[["trial", "state", "val_psnr", "learning_rate", "loss"]].to_string(index=False))
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for loss, part in trials.groupby("loss"):
    ax.semilogx(part["learning_rate"], part["val_psnr"], "o", ms=9, label=loss)
ax.set(xlabel="learning rate", ylabel="best validation PSNR (dB)")
ax.legend(title="loss")
plt.show()
