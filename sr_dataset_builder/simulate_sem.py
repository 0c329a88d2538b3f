"""Simulate CD-SEM pictures of lines and spaces whose true edges are known.

``python -m sr_dataset_builder.simulate_sem lines.yml``

Writes pairs of pictures, a short exposure and the average of many frames, for training, validation
and test. Each picture comes with its truth: the edges, CD, LER and LWR. The same file and seed give
the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from scipy import signal, special

from toolbox.command_line import OneLineParser
from toolbox.config import Count, Float, Int, Settings, check, read_yaml
from toolbox.data_loader import RECORD_NAME, SPLITS
from toolbox.errors import ConfigError, program
from toolbox.io.atomic import replacing
from toolbox.progress import progress
from toolbox.tasks.sem.metrology import SIGMAS, roughness_psd
from toolbox.tasks.sem.pixel_size import PixelSize
from toolbox.tasks.sem.sem_image import write_sem_image, write_sem_stack

#: Sub-pixels in which a row is drawn; the edges are drawn exactly.
_FINE = 6
#: Largest shifts in pixels, and widest beam; frames are drawn with a margin for all three.
_MOST_DRIFT, _MOST_OFFSET, _MOST_BEAM = 4, 8, 4
_MARGIN = _MOST_DRIFT + _MOST_OFFSET + 3 * _MOST_BEAM
#: Edges are drawn this many times longer than a frame, to include waves longer than the frame.
_LONGER = 8
TRUTH_NAME = "truth.csv"
#: Drawn from the common stream in this order. Later additions have their own streams, numbered in
#: the order of `_LATER`, to which names are only appended, so that older files keep their bytes.
_LINES = ("pitch_nm", "cd_nm", "sigma_nm", "xi_nm", "alpha", "edge_correlation")
_PROFILE = ("inside", "rim", "rim_decay", "background", "foot", "foot_decay", "psf_sigma_px")
_LATER = (
    "pixel_nm",
    "cd_share",
    "wiggle_nm",
    "wiggle_period_nm",
    "wiggle_phase",
    "asymmetry",
    "gradient",
    "shadow",
    "shadow_px",
    "correlation",
    "contrast",
    "brightness",
)
#: Parts of a split, and the names of pictures and edges.
_KINDS = ("low", "high", "noise_free", "truth", "average_*", TRUTH_NAME)
_OWN_NAME = re.compile(r"line_\d{4,}\.(tif|npz)")


def _range(value: Any) -> Any:
    """Accept one number as a range without width."""
    return (value, value) if isinstance(value, (int, float)) else value


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("expected a number, or (min, max) with min <= max")
    return limits


def _between(low: float, high: float) -> Any:
    return _range_of(Annotated[Float, Field(ge=low, le=high)])


def _range_of(number: Any) -> Any:
    return Annotated[tuple[number, number], BeforeValidator(_range), AfterValidator(_ordered)]


#: Frames of one picture.
Frames = Annotated[Count, Field(le=100_000)]


class LineParams(Settings):
    """Shape of the lines; values are drawn from ranges for every picture.

    Attributes
    ----------
    pitch_nm
        Distance between lines, at most half the width of a picture.
    cd_nm
        Mean width of a line, less than the pitch.
    sigma_nm
        Standard deviation of an edge.
    xi_nm
        Correlation length of the roughness.
    alpha
        Roughness exponent.
    edge_correlation
        Correlation of the left and right edges of a line.
    cd_share : default none
        Width of a line as a share of the pitch, instead of ``cd_nm``.
    wiggle_nm
        Amplitude of a sine along the lines that moves all edges together.
    wiggle_period_nm
        Period of this sine.
    """

    pitch_nm: _between(2, 1e4) = (32.0, 32.0)  # type: ignore[valid-type]
    cd_nm: _between(1, 1e4) = (16.0, 16.0)  # type: ignore[valid-type]
    sigma_nm: _between(0, 100) = (0.4, 1.8)  # type: ignore[valid-type]
    xi_nm: _between(0.1, 1e4) = (6.0, 40.0)  # type: ignore[valid-type]
    alpha: _between(0.05, 1.5) = (0.1, 0.9)  # type: ignore[valid-type]
    edge_correlation: _between(-1, 1) = (0.0, 0.0)  # type: ignore[valid-type]
    cd_share: _between(0.01, 0.99) | None = None  # type: ignore[valid-type]
    wiggle_nm: _between(0, 100) = (0.0, 0.0)  # type: ignore[valid-type]
    wiggle_period_nm: _between(1, 1e5) = (60.0, 60.0)  # type: ignore[valid-type]


class ProfileParams(Settings):
    """Grey values across a line, as shares of the full signal; decays per pixel.

    Attributes
    ----------
    inside
        Signal of a line, far from its edges.
    rim
        Signal added at an edge, inside.
    rim_decay
        Decay of this signal with distance, per pixel.
    background
        Signal of a space.
    foot
        Signal added at an edge, outside.
    foot_decay
        Decay of this signal, per pixel.
    psf_sigma_px
        Standard deviation of the beam.
    shape
        Decay of the rims: exp(−d) or 1 ÷ (1 + d²), with d the distance times the decay; or no rims,
        but a wall that rises as a sigmoid of d.
    asymmetry
        The left rim of a line has 1 + a of ``rim``, the right one 1 − a.
    """

    inside: _between(0, 1) = (0.3, 0.3)  # type: ignore[valid-type]
    rim: _between(0, 1) = (0.5, 0.5)  # type: ignore[valid-type]
    rim_decay: _between(0.01, 20) = (0.4, 0.4)  # type: ignore[valid-type]
    background: _between(0, 1) = (0.1, 0.2)  # type: ignore[valid-type]
    foot: _between(0, 1) = (0.1, 0.1)  # type: ignore[valid-type]
    foot_decay: _between(0.01, 20) = (2.0, 2.0)  # type: ignore[valid-type]
    psf_sigma_px: _between(0, _MOST_BEAM) = (0.5, 0.5)  # type: ignore[valid-type]
    shape: Literal["exponential", "lorentzian", "sigmoid"] = "exponential"
    asymmetry: _between(-1, 1) = (0.0, 0.0)  # type: ignore[valid-type]


class ChargingParams(Settings):
    """Shading by the charge of the sample: across the picture, and behind bright edges.

    Attributes
    ----------
    gradient
        Largest share by which a smooth field across the picture brightens or dims it.
    shadow
        Share of the signal lost directly behind a wide bright area, along the scan.
    shadow_px
        Distance over which the loss falls by a factor e.
    """

    gradient: _between(0, 0.9) = (0.0, 0.0)  # type: ignore[valid-type]
    shadow: _between(0, 0.9) = (0.0, 0.0)  # type: ignore[valid-type]
    shadow_px: _between(1, 1e4) = (30.0, 30.0)  # type: ignore[valid-type]


class NoiseParams(Settings):
    """Dose, noise and movement of the frames.

    Attributes
    ----------
    peak_counts
        Electrons per frame in a pixel with the signal ``inside`` + ``rim``.
    distribution
        Distribution of the counts; for both, the variance equals the mean.
    log_counts
        Draw ``peak_counts`` uniformly on a logarithmic scale.
    correlation
        Correlation of the noise between neighbouring pixels of a row.
    low_frames
        Frames averaged in a low picture; the equivalent frames of the test assume 1.
    high_frames
        Frames averaged in a high picture; null draws it without noise.
    drift_px
        Largest distance of a frame from the mean position of its picture.
    pair_offset_px
        Largest shift of a high picture, along each axis.
    bits
        Bit depth of the files.
    white
        Signal that is stored as white, in units of ``inside`` + ``rim``; leaves room for noise.
    black
        Distance of black below zero signal, in the same unit.
    contrast
        Factor for the resulting grey values.
    brightness
        Offset added to them, as a share of the full range.
    row_offset
        Standard deviation of the offset of a row (a scan line) in a frame, in units of ``inside`` +
        ``rim``.
    row_gain
        Standard deviation of the gain of a row.
    row_jitter_px
        Standard deviation of the position of a row along the row.
    """

    peak_counts: _between(0.1, 1e6) = (10.0, 10.0)  # type: ignore[valid-type]
    distribution: Literal["poisson", "gamma"] = "poisson"
    correlation: _range_of(Annotated[Float, Field(ge=0, lt=1)]) = (0.5, 0.5)  # type: ignore[valid-type]
    low_frames: Frames = 1
    high_frames: Frames | None = 64
    drift_px: Annotated[Float, Field(ge=0, le=_MOST_DRIFT)] = 0.3
    pair_offset_px: Annotated[Float, Field(ge=0, le=_MOST_OFFSET)] = 5.0
    bits: Literal[8, 16] = 8
    white: Annotated[Float, Field(gt=0)] = 2.5
    black: Annotated[Float, Field(ge=0)] = 0.25
    contrast: _between(0.01, 100) = (1.0, 1.0)  # type: ignore[valid-type]
    brightness: _between(-1, 1) = (0.0, 0.0)  # type: ignore[valid-type]
    log_counts: bool = False
    row_offset: Annotated[Float, Field(ge=0, le=1)] = 0.0
    row_gain: Annotated[Float, Field(ge=0, le=1)] = 0.0
    row_jitter_px: Annotated[Float, Field(ge=0, le=_MOST_DRIFT)] = 0.0


class SplitParams(Settings):
    """Number of pictures, and differences from the common settings.

    Attributes
    ----------
    count : default ``32``, ``4``, ``8``
        Number of pictures; at least 1 in ``train``.
    lines, noise
        Keys that differ from the sections above in this split.
    cd_sweep_nm
        Widths of further pictures; each width is its own group.
    sweep_count
        Number of pictures for each width.
    stack_frames
        ``train`` and ``validation``: ``low`` holds stacks of this many frames, which drift by
        ``drift_px``, and there is no ``high``.
    averages
        ``test`` only: numbers of frames to average, for each picture that is not in a sweep.
    """

    count: Annotated[Int, Field(ge=0)] = 0
    lines: dict[str, Any] = Field({})
    noise: dict[str, Any] = Field({})
    cd_sweep_nm: tuple[Annotated[Float, Field(ge=1, le=1e4)], ...] = ()
    sweep_count: Count = 2
    averages: tuple[Frames, ...] = ()
    stack_frames: Frames | None = None


class SimulationParams(Settings):
    """Settings of a simulation file (YAML).

    Attributes
    ----------
    save_dir
        Folder for the pictures; one that holds a data set is refused.
    frame_shape
        Rows and columns of a picture.
    pixel_nm
        Size of a pixel in nm. With a range, every file states its own size, and training needs
        ``sem: {pixel_nm: 1}``, with lengths in pixels.
    lines, profile, charging, noise : section
        Shape of the lines, grey values across them, shading, exposures.
    train, validation, test : section
        Contents of each split.
    seed
        The same file and seed give the same bytes.
    overwrite
        Replace an earlier simulation in ``save_dir``; nothing else is ever removed.
    """

    save_dir: Annotated[str, Field(min_length=1)]
    frame_shape: tuple[Annotated[Int, Field(ge=16)], Annotated[Int, Field(ge=16)]] = (512, 512)
    pixel_nm: _range_of(Annotated[Float, Field(gt=0)]) = (0.8, 0.8)  # type: ignore[valid-type]
    lines: LineParams = LineParams()
    profile: ProfileParams = ProfileParams()
    charging: ChargingParams = ChargingParams()
    noise: NoiseParams = NoiseParams()
    train: SplitParams = SplitParams(count=32)
    validation: SplitParams = SplitParams(count=4)
    test: SplitParams = SplitParams(count=8)
    seed: Annotated[Int, Field(ge=0)] = 0
    overwrite: bool = False

    @model_validator(mode="after")
    def _something_to_draw(self) -> SimulationParams:
        if not self.profile.inside[0] + self.profile.rim[0] > 0:
            raise ValueError(
                "profile.inside + profile.rim must be above 0; received 0. Use inside: 0.3."
            )
        for split in SPLITS:
            self.noise_of(split)
            self._refuse_tight_lines(split)
        if self.test.stack_frames is not None:
            raise ValueError(
                "test.stack_frames must be left out, as a test needs its high pictures; received "
                f"{self.test.stack_frames}. Use it for train and validation."
            )
        if not self.train.count:
            raise ValueError("train.count must be at least 1; received 0. Use 32.")
        return self

    def _refuse_tight_lines(self, split: str) -> None:
        lines = self.lines_of(split)
        pitch = lines.pitch_nm
        own = lines.cd_nm[1] if lines.cd_share is None else 0.0
        widest = max(own, *getattr(self, split).cd_sweep_nm, 0)
        if widest >= pitch[0]:
            raise ValueError(
                f"{split}: cd_nm must be below pitch_nm; received {widest:g} and {pitch[0]:g}. "
                f"Use narrower lines or a larger pitch."
            )
        width = self.frame_shape[1] * self.pixel_nm[0]
        if width < 2 * pitch[1]:
            raise ValueError(
                f"{split}: pitch_nm must be at most half the width of the frame, {width:g} nm; "
                f"received {pitch[1]:g}. Use a wider frame_shape."
            )

    def lines_of(self, split: str) -> LineParams:
        """Return the shape of the lines of a split."""
        return self._merged(split, "lines", LineParams)

    def noise_of(self, split: str) -> NoiseParams:
        """Return dose and noise of a split."""
        return self._merged(split, "noise", NoiseParams)

    def _merged(self, split: str, section: str, kind: Any) -> Any:
        common = getattr(self, section).model_dump()
        try:
            own = getattr(getattr(self, split), section)
            return check(kind, {**common, **own}, split, section)
        except ConfigError as error:
            raise ValueError(str(error)) from None


class Truth(NamedTuple):
    """True edges of one picture, in the coordinates of its short exposure.

    Attributes
    ----------
    left_px, right_px : numpy.ndarray, shape (lines, H)
        Pixels, with the centre of column j at j. Lines cut by the frame are left out.
    pixel_nm : float
        Size of a pixel.
    """

    left_px: np.ndarray
    right_px: np.ndarray
    pixel_nm: float

    def figures(self) -> dict[str, float]:
        """Return CD, LWR and LER (three standard deviations) as drawn, in nm."""
        width = (self.right_px - self.left_px) * self.pixel_nm
        edges = np.concatenate([self.left_px, self.right_px]) * self.pixel_nm
        return {
            "cd_nm": float(width.mean()),
            "lwr_nm": SIGMAS * float(np.sqrt(width.var(axis=1).mean())),
            "ler_nm": SIGMAS * float(np.sqrt(edges.var(axis=1).mean())),
        }


def rough_edges(
    rng: np.random.Generator,
    shape: tuple[int, int],
    step_nm: float,
    sigma_nm: float,
    xi_nm: float,
    alpha: float,
) -> np.ndarray:
    """Draw deviations of edges with the spectrum of `toolbox.tasks.sem.metrology.roughness_psd`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random generator.
    shape : (int, int)
        Edges, rows. The edges are periodic over the rows; use a part of them to avoid that.
    step_nm : float
        Distance between rows.
    sigma_nm, xi_nm, alpha : float
        Standard deviation, correlation length, roughness exponent.

    Returns
    -------
    numpy.ndarray, shape `shape`
        Deviations in nm. The mean of an edge is also random.

    References
    ----------
    Mack 2013, doi:10.1117/1.JMM.12.3.033016.
    """
    count, rows = shape
    frequency = np.fft.rfftfreq(rows, step_nm)
    density = roughness_psd(frequency, sigma_nm, xi_nm, alpha)
    waves = rng.standard_normal((2, count, len(frequency)))
    spectrum = (waves[0] + 1j * waves[1]) * np.sqrt(0.5 * density * rows / step_nm)
    # The mean and, for an even number of rows, the finest wave have no phase: their power is real.
    real = [0, -1] if rows % 2 == 0 else [0]
    spectrum[:, real] = spectrum[:, real].real * np.sqrt(2)
    return np.fft.irfft(spectrum, rows, axis=1)


class LinePicture:
    """One field of lines, ready to be exposed.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random generator.
    params : SimulationParams
        Settings of frame and profile.
    lines : LineParams
        Shape of the lines.

    Attributes
    ----------
    nominal : dict of str to float
        Values drawn from the ranges.
    truth : Truth
        The edges.

    Raises
    ------
    ConfigError
        If lines of this shape run into each other.
    """

    def __init__(
        self, rng: np.random.Generator, params: SimulationParams, lines: LineParams
    ) -> None:
        self._rng, self._params = rng, params
        later, self._shade_rng = rng.spawn(2)
        self._shares = dict(zip(_LATER, later.random(len(_LATER)), strict=True))
        self.nominal = {name: rng.uniform(*getattr(lines, name)) for name in _LINES}
        self._profile = {name: rng.uniform(*getattr(params.profile, name)) for name in _PROFILE}
        self.pixel_nm = self._drawn("pixel_nm", params.pixel_nm)
        if lines.cd_share is not None:
            share = self._drawn("cd_share", lines.cd_share)
            self.nominal["cd_nm"] = share * self.nominal["pitch_nm"]
        edges = self._edges() + self._wiggle(lines)
        self.truth = self._truth(edges)
        height, width = params.frame_shape
        self._fine = np.fft.rfft2(self._draw(edges))
        self._rows = np.fft.fftfreq(height + 2 * _MARGIN)[:, None]
        self._columns = np.fft.rfftfreq((width + 2 * _MARGIN) * _FINE, 1 / _FINE)[None]

    def _drawn(self, name: str, limits: tuple[float, float]) -> float:
        """Draw from a range of `_LATER`, and record the value if the range has any width."""
        low, high = limits
        if high > low:
            self.nominal[name] = low + self._shares[name] * (high - low)
        return self.nominal.get(name, low)

    def _wiggle(self, lines: LineParams) -> np.ndarray:
        """Return the common displacement of all edges in each row, a sine, in pixels."""
        size = self._drawn("wiggle_nm", lines.wiggle_nm) / self.pixel_nm
        period = self._drawn("wiggle_period_nm", lines.wiggle_period_nm) / self.pixel_nm
        rows = np.arange(self._params.frame_shape[0] + 2 * _MARGIN)
        turn = rows / period + self._shares["wiggle_phase"]
        return np.asarray(size * np.sin(2 * np.pi * turn))

    def _edges(self) -> np.ndarray:
        """Return the positions (2 * lines, rows) of all edges in order, in pixels."""
        n, rng, pixel = self.nominal, self._rng, self.pixel_nm
        rows = self._params.frame_shape[0] + 2 * _MARGIN
        width = self._params.frame_shape[1] + 2 * _MARGIN
        pitch, cd = n["pitch_nm"] / pixel, n["cd_nm"] / pixel
        starts = np.arange(-2 * pitch, width + 2 * pitch, pitch) + rng.uniform(0, pitch) - _MARGIN
        shape = (2 * len(starts), _LONGER * rows)
        rho = n["edge_correlation"]
        for _ in range(20):
            drawn = rough_edges(rng, shape, pixel, n["sigma_nm"], n["xi_nm"], n["alpha"])
            drawn = drawn[:, :rows] / pixel
            left, other = drawn[::2], drawn[1::2]
            right = rho * left + np.sqrt(1 - rho**2) * other
            edges = np.stack([starts[:, None] + left, starts[:, None] + cd + right], axis=1)
            edges = edges.reshape(-1, rows)
            if np.diff(edges, axis=0).min() > 2:
                return edges
        raise ConfigError(
            f"lines of cd_nm {n['cd_nm']:.3g} at pitch_nm {n['pitch_nm']:.3g} with sigma_nm "
            f"{n['sigma_nm']:.3g} run into each other. Use less roughness, or wider lines and "
            f"spaces."
        )

    def _truth(self, edges: np.ndarray) -> Truth:
        height, width = self._params.frame_shape
        left, right = (part[:, _MARGIN : _MARGIN + height] for part in (edges[::2], edges[1::2]))
        whole = (left.min(axis=1) > 0) & (right.max(axis=1) < width - 1)
        if not whole.any():
            raise ConfigError(
                f"no line is completely inside a frame_shape of {height} x {width} pixels. Use a "
                f"wider frame_shape, or less roughness."
            )
        return Truth(left[whole], right[whole], self.pixel_nm)

    def _draw(self, edges: np.ndarray) -> np.ndarray:
        """Return the signal before blurring by the beam, finely sampled across the lines."""
        width = (self._params.frame_shape[1] + 2 * _MARGIN) * _FINE
        x = (np.arange(width) + 0.5) / _FINE - 0.5 - _MARGIN
        number = sum((x[None] >= edge[:, None]).astype(np.int16) for edge in edges)
        padded = np.concatenate([edges[:1] - 1e3, edges, edges[-1:] + 1e3]).T
        before = x[None] - np.take_along_axis(padded, number.astype(np.int64), axis=1)
        after = np.take_along_axis(padded, number.astype(np.int64) + 1, axis=1) - x[None]
        p, nearest = self._profile, np.minimum(before, after)
        inside = number % 2 == 1
        shape = self._params.profile.shape
        if shape == "sigmoid":
            # A sloping wall: the line has no rim, and the signal rises over 1 / rim_decay pixels.
            part = special.expit(p["rim_decay"] * nearest)
            rim = np.full_like(nearest, 0.5)
        else:
            # A fine pixel with an edge is a mixture of both sides.
            part = np.clip(0.5 + nearest * _FINE, 0.5, 1.0)
            lean = self._drawn("asymmetry", self._params.profile.asymmetry)
            rim = _two_sided(before, after, p["rim_decay"], shape, lean)
        share = np.where(inside, part, 1 - part)
        line = p["inside"] + p["rim"] * rim
        space = p["background"] + p["foot"] * _two_sided(before, after, p["foot_decay"])
        return np.asarray(self._shaded(share * line + (1 - share) * space), np.float32)

    def _shaded(self, image: np.ndarray) -> np.ndarray:
        """Apply the shading by the charge of the sample to a signal (rows, fine columns)."""
        charging = self._params.charging
        shadow = self._drawn("shadow", charging.shadow)
        length = self._drawn("shadow_px", charging.shadow_px) * _FINE
        if shadow:
            kept = np.exp(-1 / length)
            mean = signal.lfilter([1 - kept], [1, -kept], image, axis=1)
            image = image * (1 - shadow * np.minimum(mean / self._peak, 1))
        gradient = self._drawn("gradient", charging.gradient)
        if gradient:
            rng = self._shade_rng
            y, x = (np.linspace(0, 2 * np.pi, size) for size in image.shape)
            # Three waves, none shorter than the picture.
            waves = [
                np.cos(rng.uniform(-1, 1) * y[:, None] + rng.uniform(-1, 1) * x + turn)
                for turn in rng.uniform(0, 2 * np.pi, 3)
            ]
            field = sum(waves) - np.mean(waves)
            image = image * (1 + gradient * field / np.abs(field).max())
        return image

    @property
    def _peak(self) -> float:
        """Return the signal that corresponds to ``peak_counts``."""
        return float(self._profile["inside"] + self._profile["rim"])

    def stack(self, noise: NoiseParams, count: int) -> Iterator[np.ndarray]:
        """Yield `count` consecutive short exposures, which drift by up to ``drift_px``."""
        for place in self._drift(noise.drift_px, count):
            yield self.expose(noise, noise.low_frames, place=place)

    def expose(
        self,
        noise: NoiseParams,
        frames: int | None,
        offset: bool = False,
        place: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """Return a simulated picture.

        Parameters
        ----------
        noise : NoiseParams
            Dose, noise and movement.
        frames : int or None
            Number of averaged frames; None for a picture without noise.
        offset : bool
            Whether to shift the picture by up to ``pair_offset_px`` from the true edges.
        place : numpy.ndarray, shape (2,)
            Further shift from the true edges, (dy, dx) in pixels.

        Returns
        -------
        numpy.ndarray, shape (H, W), uint8 or uint16
            Grey values.
        """
        counts = np.maximum(self._clean(noise, frames, offset, place), 0)
        dose = self._dose(noise)
        if frames is not None:
            total = counts * dose * frames
            rng = self._rng
            taken = rng.poisson(total) if noise.distribution == "poisson" else rng.gamma(total)
            rho = self._drawn("correlation", noise.correlation)
            # Correlated along the fast axis with the same variance; the beam is not blurred.
            error = taken - total
            error[:, 0] /= np.sqrt(1 - rho**2)
            error = signal.lfilter([np.sqrt(1 - rho**2)], [1, -rho], error, axis=1)
            counts = self._rows_apart(noise, frames, counts + error / (dose * frames))
        height, width = self._params.frame_shape
        counts = counts[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        grey = (counts / self._peak + noise.black) / (noise.white + noise.black)
        grey = self._drawn("contrast", noise.contrast) * grey
        grey = grey + self._drawn("brightness", noise.brightness)
        top = 2**noise.bits - 1
        return np.rint(np.clip(grey * top, 0, top)).astype(f"uint{noise.bits}")

    def _dose(self, noise: NoiseParams) -> float:
        """Return the counts per unit of signal that give the rim ``peak_counts``."""
        low, high = noise.peak_counts
        share = self.nominal.setdefault("dose_share", float(self._rng.uniform()))
        peak = low * (high / low) ** share if noise.log_counts else low + share * (high - low)
        return peak / self._peak

    def _rows_apart(self, noise: NoiseParams, frames: int, counts: np.ndarray) -> np.ndarray:
        """Apply different gains and offsets to the rows (scan lines) of an average."""
        rows = (len(counts), 1)
        for size, unit in ((noise.row_gain, counts), (noise.row_offset, self._peak)):
            if size:
                step = size / np.sqrt(frames) * self._rng.standard_normal(rows)
                counts = counts + step * unit
        return counts

    def _clean(
        self, noise: NoiseParams, frames: int | None, offset: bool, place: np.ndarray | float
    ) -> np.ndarray:
        """Return the blurred signal (rows, columns) of pixels, including margins."""
        beam = self._profile["psf_sigma_px"]
        square = self._rows**2 + self._columns**2
        transfer = np.exp(-2 * (np.pi * beam) ** 2 * square)
        path = self._drift(noise.drift_px, frames or 1) + place
        jitter = noise.row_jitter_px if frames else 0.0
        if jitter and frames:
            # Over many frames, jumping rows blur, and the remaining jump decreases.
            transfer = transfer * np.exp(
                -2 * (np.pi * jitter * self._columns) ** 2 * (1 - 1 / frames)
            )
        if offset:
            path = path + self._rng.uniform(-1, 1, 2) * noise.pair_offset_px
        # The mean over all frames of a shift by (dy, dx), as one matrix product.
        down = np.exp(-2j * np.pi * self._rows * path[:, 0])
        across = np.exp(-2j * np.pi * path[:, 1:] * self._columns)
        moved = down @ across / len(path)
        fine = np.fft.irfft2(
            self._fine * transfer * moved, s=(len(self._rows), 2 * (self._columns.shape[1] - 1))
        )
        if jitter and frames:
            jump = jitter / np.sqrt(frames) * self._rng.standard_normal((len(fine), 1))
            turned = np.fft.rfft(fine, axis=1) * np.exp(-2j * np.pi * jump * self._columns)
            fine = np.fft.irfft(turned, fine.shape[1], axis=1)
        return fine.reshape(len(fine), -1, _FINE).mean(axis=2)

    def _drift(self, size: float, frames: int) -> np.ndarray:
        """Return the shift of each frame (frames, 2): sums of sines about their mean, in pixels."""
        if frames == 1 or not size:
            return np.zeros((1, 2))
        time = np.linspace(0, 1, frames)[:, None, None]
        waves = self._rng.uniform(0.2, 1.5, (1, 2, 3)), self._rng.uniform(0, 2 * np.pi, (1, 2, 3))
        path = np.sin(2 * np.pi * waves[0] * time + waves[1]).mean(axis=2) * size / 2
        # Centred, so that an average is where its truth is; no frame is farther away than size.
        return np.asarray(path - path.mean(axis=0))


def _two_sided(
    before: np.ndarray,
    after: np.ndarray,
    decay: float,
    shape: str = "exponential",
    lean: float = 0.0,
) -> np.ndarray:
    """Return the signal added by two edges, the left one 1 + lean and the right one 1 - lean."""
    far = [decay * np.abs(before), decay * np.abs(after)]
    left, right = (1 / (1 + d**2) if shape == "lorentzian" else np.exp(-d) for d in far)
    return np.asarray((1 + lean) * left + (1 - lean) * right)


class Simulator:
    """Writes all pictures and their truth.

    Parameters
    ----------
    params : SimulationParams
        Settings of the simulation.
    folder : path-like, optional
        Output folder. Default: that of the settings.
    """

    def __init__(
        self, params: SimulationParams, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.params = params
        self.folder = Path(folder or params.save_dir)

    def jobs(self) -> Iterator[tuple[str, int, str, LineParams]]:
        """Yield (split, number, group, lines) of every picture; a sweep has one group per CD."""
        for split in SPLITS:
            part: SplitParams = getattr(self.params, split)
            lines = self.params.lines_of(split)
            groups = [("lines", lines)] + [
                (f"sweep_{cd:g}", lines.model_copy(update={"cd_nm": (cd, cd), "cd_share": None}))
                for cd in part.cd_sweep_nm
            ]
            number = 0
            for group, shape in groups:
                for _ in range(part.count if group == "lines" else part.sweep_count):
                    number += 1
                    yield split, number, group, shape

    def run(self) -> dict[str, int]:
        """Write everything; return the number of pictures by split.

        ``SPLIT/low`` and ``SPLIT/high`` hold the pairs, ``SPLIT/truth`` the edges (``.npz``) and
        ``SPLIT/truth.csv`` a row for each picture. With ``stack_frames``, ``SPLIT/low`` holds
        unpaired stacks of frames instead. Test pictures also have a ``noise_free`` version and,
        for ``averages``, ``average_NNNN`` of N frames.
        """
        rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        jobs = list(self.jobs())
        for split, number, group, lines in progress(jobs, "simulating", unit="picture"):
            rng = np.random.default_rng([self.params.seed, SPLITS.index(split), number])
            picture = LinePicture(rng, self.params, lines)
            self._write(split, f"line_{number:04d}", group, picture)
            figures = picture.truth.figures()
            rows[split].append(
                {
                    "name": f"line_{number:04d}",
                    "group": group,
                    **figures,
                    "lines": len(picture.truth.left_px),
                    **{f"nominal_{key}": value for key, value in picture.nominal.items()},
                }
            )
        for split in SPLITS:
            if rows[split]:
                with replacing(self.folder / split / TRUTH_NAME) as beside:
                    pd.DataFrame(rows[split]).to_csv(beside, index=False)
        counts = {split: len(rows[split]) for split in SPLITS}
        self._record(counts)
        return counts

    def _write(self, split: str, name: str, group: str, picture: LinePicture) -> None:
        noise = self.params.noise_of(split)
        part: SplitParams = getattr(self.params, split)
        exposures: dict[str, np.ndarray] = {}
        if part.stack_frames is None:
            exposures["low"] = picture.expose(noise, noise.low_frames)
            exposures["high"] = picture.expose(noise, noise.high_frames, offset=True)
        else:
            path = self.folder / split / "low" / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = PixelSize("pixel_nm", picture.pixel_nm)
            frames = picture.stack(noise, part.stack_frames)
            write_sem_stack(path, frames, part.stack_frames, size)
        if split == "test":
            exposures["noise_free"] = picture.expose(noise, None)
            if group == "lines":
                for count in part.averages:
                    exposures[f"average_{count:04d}"] = picture.expose(noise, count)
        for kind, pixels in exposures.items():
            path = self.folder / split / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sem_image(path, pixels, picture.pixel_nm)
        truth = picture.truth
        with replacing(self.folder / split / "truth" / f"{name}.npz") as beside:
            np.savez_compressed(beside, **truth._asdict())

    def _record(self, counts: dict[str, int]) -> None:
        low, high = self.params.pixel_nm
        content = {
            # With several sizes, each file states its own.
            "pixel_nm": low if low == high else None,
            "pictures": counts,
            "simulation": self.params.model_dump(mode="json"),
        }
        with replacing(self.folder / RECORD_NAME) as beside:
            beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def refuse_pictures(save_dir: str, where: str, overwrite: bool) -> None:
    """Refuse a folder that holds a data set, except an earlier simulation to be replaced."""
    folder = Path(save_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{where}: save_dir {save_dir} is a file; expected a folder.")
    parts = _parts(folder)
    found = [*folder.glob(RECORD_NAME), *folder.glob("*/data_[HL]R.*")]
    found += [path for part in parts for path in (part.iterdir() if part.is_dir() else [part])]
    if found and not overwrite:
        raise ConfigError(
            f"{where}: save_dir {save_dir} already holds a data set. "
            f"Choose another folder, remove it, or add 'overwrite: true'."
        )
    foreign = [path for path in found if not _is_own(path)]
    if not foreign and not _is_simulation(folder / RECORD_NAME):
        foreign = found  # names alone are no proof
    if foreign:
        raise ConfigError(
            f"{where}: save_dir {save_dir} holds {foreign[0].relative_to(folder)}, which is not "
            f"part of a simulation and is never replaced. Choose another folder."
        )


def _parts(folder: Path) -> list[Path]:
    """Return the existing folders and tables of the splits."""
    return [part for kind in _KINDS for split in SPLITS for part in folder.glob(f"{split}/{kind}")]


def _is_own(path: Path) -> bool:
    """Whether a file has a name used by a simulation, or was made from such files."""
    # Hidden files belong to other files: stored shifts, unfinished writes.
    own = path.name in (TRUTH_NAME, RECORD_NAME) or bool(_OWN_NAME.fullmatch(path.name))
    return own or path.name.startswith(".")


def _is_simulation(record: Path) -> bool:
    """Whether the record of a folder states that a simulation wrote it."""
    try:
        return "simulation" in json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def simulate(params: SimulationParams, where: str = "lines.yml") -> dict[str, int]:
    """Write the data set that `params` describes; return the number of pictures by split.

    It is written to a temporary folder and put in place when complete; an earlier one stays until
    then.
    """
    refuse_pictures(params.save_dir, where, params.overwrite)
    folder = Path(params.save_dir)
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        counts = Simulator(params, beside).run()
        (folder / RECORD_NAME).unlink(missing_ok=True)
        for part in _parts(folder):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()
        # The record comes last: a folder without it is not a complete data set.
        for part in [*_parts(beside), beside / RECORD_NAME]:
            target = folder / part.relative_to(beside)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for split, count in counts.items():
        print(f"{split:>10}: {count:5d} pairs")
    print(f"written to {params.save_dir}")
    return counts


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = OneLineParser(
        prog="python -m sr_dataset_builder.simulate_sem",
        description="Simulate CD-SEM pictures of lines and spaces with known edges.",
    )
    parser.add_argument("yml_fname", help="simulation file (.yml)")
    fname = parser.parse_args(arguments).yml_fname
    simulate(check(SimulationParams, read_yaml(fname), fname), fname)


if __name__ == "__main__":
    raise SystemExit(main())
