"""Windows of images and masks with labels: the same Trainer, callbacks and exact resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from toolbox.data_generator import BatchStream, Spec
from toolbox.io.weights import load_weights
from toolbox.model.base import SRModel
from toolbox.model.build import build_network
from toolbox.registry import LOSSES, METRICS, MODELS, TASKS
from toolbox.settings import UserParams
from toolbox.task import Source, Task

CLASSES = 3


class Windows(BatchStream):
    """Three images of 4 × 4 and a mask in, one of three labels out; made from their number."""

    input_spec = {"images": Spec((3, 4, 4, 3)), "mask": Spec((3, 4, 4, 1))}
    target_spec = Spec((CLASSES,))

    def __init__(self, count, batch_size, seed):
        self.num_imgs, self.batch_size, self.seed = count, batch_size, seed

    def _examples(self, numbers):
        images = np.stack([np.full((3, 4, 4, 3), n % CLASSES, np.float32) for n in numbers])
        mask = np.stack([np.random.default_rng(n).random((3, 4, 4, 1)) for n in numbers])
        return {"images": images, "mask": mask}, np.eye(CLASSES)[np.asarray(numbers) % CLASSES]

    def batch(self, number):
        epoch, step = divmod(number, self.steps_per_epoch())
        start = step * self.batch_size
        return self._examples(self._permutation(epoch)[start : start + self.batch_size])

    def evaluation_batch(self, start):
        return self._examples(range(start, min(start + self.batch_size, self.num_imgs)))

    def fingerprint(self):
        return self.num_imgs


class LabelSource(Source):
    norm_range = (0.0, 1.0)

    def train(self):
        raise AssertionError("windows are never held as pairs of images")

    validation = test = train

    def sample(self):
        return np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))

    def batches(self, split, norm_func, batch_size, augmenter=None, seed=0):
        return Windows(24 if split == "train" else 7, batch_size, seed)


class Labels(Task):
    name = "labels"
    sources = {"labels": f"{__name__}:LabelSource"}

    def preview(self, settings, validation, normalizer):
        return None

    def evaluate(self, run, source, split, compare=True):
        raise AssertionError("a run of labels is only trained here")

    def objectives(self):
        return [("accuracy",)]


class Classifier(SRModel):
    """Masked mean of the images, a dense layer and dropout."""

    def _inputs(self):
        return {
            "images": keras.Input((3, 4, 4, 3), name="images"),
            "mask": keras.Input((3, 4, 4, 1), name="mask"),
        }

    def _outputs(self, inputs):
        x = keras.layers.Multiply()([inputs["images"], inputs["mask"]])
        x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))
        return keras.layers.Dense(CLASSES, activation="softmax")(x)

    def __build__(self):
        raise AssertionError("the graph is made in _outputs")


def cross_entropy(y_true, y_pred, max_val=1.0):
    return keras.losses.categorical_crossentropy(y_true, y_pred)


def accuracy(y_true, y_pred, max_val=1.0):
    same = tf.equal(tf.argmax(y_true, -1), tf.argmax(y_pred, -1))
    return tf.cast(same, tf.float32)


@pytest.fixture
def labels(monkeypatch, tmp_path):
    """``labels(name)``: a settings file for a run with labels."""
    rows = [(TASKS, "labels", "Labels"), (MODELS, "classifier", "Classifier")]
    rows += [(LOSSES, "cross_entropy", "cross_entropy"), (METRICS, "accuracy", "accuracy")]
    for table, name, attribute in rows:
        monkeypatch.setitem(table._rows, name, f"{__name__}:{attribute}")

    def write(name):
        content = {
            "data_dir": str(tmp_path),
            "task": "labels",
            "model": "classifier",
            "normalizer": "identity",
            "input_shape": [4, 4, 3],
            "scale": 1,
            "loss": "cross_entropy",
            "metrics": "accuracy",
            "learning_rate": 0.01,
            "batch_size": 4,
            "epochs": 3,
            "ema": 0.9,
            "log_period": 100,
            "jit_compile": False,
            "steps_per_execution": 1,
            "log_dir": str(tmp_path / name),
        }
        path = tmp_path / f"{name}.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


def weights_of(config):
    """Return the last weights of a run."""
    settings = UserParams(config)
    network = build_network(settings.resolved())
    load_weights(network, f"{settings.log_dir}/weights_last.h5")
    return network.get_weights()


def test_labels_are_trained_and_resumed(labels, workshop, stop_after):
    """Stopped in the middle and resumed, a run has the weights and history of a whole one."""
    whole, broken = labels("whole"), labels("broken")
    assert workshop.run(whole, "train").code == 0
    stop_after(10)
    stopped = workshop.run(broken, "train")
    assert stopped.code == 130, stopped.err
    result = workshop.run(broken, "train", "--resume")
    assert result.code == 0, result.err
    assert all(map(np.array_equal, weights_of(whole), weights_of(broken)))
    history = [
        (workshop.folder / name / "history.csv").read_bytes() for name in ("whole", "broken")
    ]
    assert history[0] == history[1]
    assert b"val_accuracy" in history[0].splitlines()[0]
