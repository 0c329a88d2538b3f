r"""
Train on your own map
=====================

It takes three commands: cut a map into pairs, train, test. Only ``hr_fname`` below is specific to
this page; put your own GeoTIFF, NetCDF, BAG, S-102, ``.npy`` or ``.pkl`` there.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from sr_dataset_builder import dataset
from sr_trainer.main import main

work = Path(tempfile.mkdtemp())

# %%
# **Pairs.** The builder averages the map to make a coarse version, cuts both into blocks, and sets
# whole blocks aside for validation and test. On the command line:
# ``python -m sr_dataset_builder.dataset build.yml``.

build = f"""\
hr_fname: sample:jacksboro_fault_dem.npz
save_dir: {work}/pairs
scale: 4
block_shape: [4, 5]
lr_img_shape: [16, 16]
lr_stride: [2, 2]
"""
(work / "build.yml").write_text(build)
dataset.main([str(work / "build.yml")])

# %%
# **Training.** ``local_mean`` subtracts the local mean from the network's input, and with
# ``bicubic_skip`` the network learns only what bicubic misses. On the command line:
# ``python main.py input.yml train``.

settings = f"""\
data_dir: {work}/pairs
log_dir: {work}/log
model: espcn
normalizer: local_mean
bicubic_skip: true
epochs: 30
learning_rate: 2e-3
test_pictures: 4
"""
(work / "input.yml").write_text(settings)
main([str(work / "input.yml"), "train"])

# %%
# **Test**, on blocks that were not used in training: ``python main.py input.yml test``. The table
# is in metres, and a page ``report.html`` shows the same with pictures. See :doc:`/results`.

main([str(work / "input.yml"), "test"])

# %%
# This is one of the pictures that the test wrote.

fig = plt.figure(figsize=(9, 5), layout="constrained")
ax = fig.add_subplot()
ax.imshow(plt.imread(work / "log/test_result/summary.png"))
ax.axis("off")
plt.show()
