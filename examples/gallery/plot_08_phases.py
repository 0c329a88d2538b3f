r"""
Phases of an operation
======================

Which phase does a video show, and when? You need a folder of videos and a table of their phases::

    python main.py examples/surgical_phase/clips.yml train
    python main.py examples/surgical_phase/clips.yml predict operation.mp4

The videos below are invented, so that they can be shared. They do not show real operations.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np

from examples.surgical_phase.generate import Operation, table_of
from toolbox.tasks.surgical_phase.measure import Video, measure
from toolbox.tasks.surgical_phase.ribbon import draw_ribbons

# %%
# Training needs this table: video, start and end in seconds, phase.

print(table_of(count=3, seed=0, shuffle_labels=False).head(6).to_string(index=False))

# %%
# Read a video. The picture below shows one frame of every phase.

operation = Operation(seed=0, number=1)
frames = [frame for frame, _ in itertools.islice(operation.frames(), len(operation))]
times_s = np.arange(len(frames)) / operation.rate_hz
truth = np.full(len(frames), -1)
for segment in operation.segments:
    truth[(times_s >= segment.start_s) & (times_s < segment.end_s)] = max(segment.phase, -1)
phases = ["inspection", "grasping", "rinsing"]

# %%
# How good is a prediction? This one is made by hand: right, but late by 1.5 seconds, and wrong for
# a moment. Strict figures count every frame. Relaxed ones forgive a confusion with the
# neighbouring phase near a boundary. :doc:`/surgical_phases` has both definitions.

late = round(1.5 * operation.rate_hz)
found = np.concatenate([np.full(late, max(truth[0], 0)), np.maximum(truth[:-late], 0)])
found[300:320] = 2
video = Video("operation", np.arange(len(frames)), truth, found, operation.rate_hz)
summary = measure([video], len(phases), boundary_s=2.0).summary
print(f"accuracy {summary['accuracy']['mean']:.1%}")
print(f"relaxed  {summary['relaxed']['accuracy']['mean']:.1%}")

fig = plt.figure(figsize=(9, 4.2), layout="constrained")
grid = fig.add_gridspec(2, 3, height_ratios=(2, 1.3))
for number, name in enumerate(phases):
    ax = fig.add_subplot(grid[0, number])
    ax.imshow(frames[int(np.median(np.flatnonzero(truth == number)))])
    ax.set(title=name, xticks=[], yticks=[])
draw_ribbons(fig.add_subplot(grid[1, :]), times_s, {"truth": truth, "found": found}, phases)
plt.show()
