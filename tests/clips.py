"""Tiny videos of operations: three phases that a glance tells apart, with masks and a table.

Here, too, is a backbone in the place of those of ``keras.applications``, which take a minute to
trace.
"""

import csv

import cv2
import keras
import numpy as np

SIZE = (48, 32)
RATES = (12.5, 25.0)


def TinyNet(include_top=False, weights=None, input_shape=None):
    """Return a backbone with dropout and batch normalisation."""
    assert not include_top
    assert weights is None
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(6, 3, 4, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8)(x))
    x = keras.layers.Conv2D(8, 3, 4, padding="same", activation="relu")(x)
    return keras.Model(image, x, name="tiny_net")


def preprocess_input(x):
    """Scale to -1..1, as the backbone expects."""
    return x / 127.5 - 1.0


def write_video(path, frames, rate_hz):
    """Write frames (n, H, W, 3), RGB, as Motion-JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate_hz, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def frames_of(phase, count, rng):
    """Return images and masks (n, H, W, 3) of a phase: nothing, a bright tool, red fluid."""
    width, height = SIZE
    images = rng.integers(60, 110, (count, height, width, 3), np.uint8)
    masks = np.zeros_like(images)
    for number in range(count if phase else 0):
        left = 8 + (2 * number) % 16
        part = np.s_[number, 8:24, left : left + 12]
        images[part] = (230, 230, 230) if phase == 1 else (200, 20, 30)
        masks[(*part, phase - 1)] = 255
    return images, masks


def write_clips(folder, splits=("train",) * 5 + ("val",) * 2 + ("test",) * 2, seconds=2.0):
    """Write ``videos/``, ``masks/`` and OphNet's table ``phases.csv``; every video has all phases.

    Half a second of each video, at the end, has no label.
    """
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(splits):
        rate, name = RATES[number % 2], f"case_{number:02d}"
        images, masks, time = [], [], 0.0
        for phase in np.roll([0, 1, 2], number):
            count = round(seconds * rate)
            shown = frames_of(int(phase), count, rng)
            images.append(shown[0])
            masks.append(shown[1])
            rows.append([name, round(time, 3), round(time + count / rate, 3), split, 7, phase])
            time += count / rate
        tail = frames_of(0, round(0.5 * rate), rng)
        write_video(folder / "videos" / f"{name}.avi", np.concatenate([*images, tail[0]]), rate)
        write_video(folder / "masks" / f"{name}.avi", np.concatenate([*masks, tail[1]]), rate)
    with open(folder / "phases.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["video_id", "start", "end", "split", "surgery_id", "phase_id"])
        table.writerows(rows)
    return folder
