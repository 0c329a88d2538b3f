"""Prediction: a map, an image, or a folder of them, enlarged with its geodata kept."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sr_trainer.predict_params import PredictParams
from sr_trainer.prediction_report import PredictionReport
from toolbox.errors import ConfigError, DataError, ToolboxError
from toolbox.io.map_writers import check_output, default_output_suffix, write_map
from toolbox.io.maps import SUFFIXES, MapReader, open_map
from toolbox.io.work_file import WorkFile
from toolbox.progress import progress
from toolbox.resample import block_mean
from toolbox.super_resolver import SuperResolver
from toolbox.tiling import Tiling

_NOT_METRES = r"(km|kilomet|dm|decimet|cm|centimet|mm|millimet|ft|foot|feet|us|fathom)"


@dataclasses.dataclass
class Figures:
    """What is measured while a map is enlarged; sums, so that interrupted work can go on.

    Attributes
    ----------
    count : int
        Valid low-resolution pixels.
    squares, worst : float
        Sum of squares and maximum of the difference between the block means of the result and
        the input, physical units.
    low, high : float
        Range of the result.
    outside : int
        Valid low-resolution pixels outside the depths and slopes of the training data.
    """

    count: int = 0
    squares: float = 0.0
    worst: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    outside: int = 0

    def add(self, lr: np.ndarray, sr: np.ndarray, outside: np.ndarray | None) -> None:
        """Take in rows of the input (h, w, C) and of the result (h * scale, w * scale, C)."""
        scale = sr.shape[0] // lr.shape[0]
        difference = block_mean(sr[None], scale)[0] - lr
        valid = np.isfinite(difference)
        if not valid.any():
            return
        difference = difference[valid].astype(np.float64)
        self.count += int(valid[..., 0].sum())
        self.squares += float(np.square(difference).sum()) / lr.shape[2]
        self.worst = max(self.worst, float(np.abs(difference).max()))
        self.low = min(self.low, float(np.fmin.reduce(sr, axis=None)))
        self.high = max(self.high, float(np.fmax.reduce(sr, axis=None)))
        if outside is not None:
            self.outside += int((outside[::scale, ::scale] == 1).sum())


class Predictor:
    """Enlarges files with a trained network.

    Parameters
    ----------
    resolver : toolbox.super_resolver.SuperResolver
        The network, or several.
    settings : PredictParams
        How it is used.
    overwrite : bool
        Replace a file that is there.
    """

    #: What is taken from a folder, and how it is said that there is none.
    suffixes: ClassVar[Sequence[str]] = SUFFIXES
    what: ClassVar[str] = "no map or image"

    def __init__(
        self, resolver: SuperResolver, settings: PredictParams, overwrite: bool = False
    ) -> None:
        self.resolver = resolver
        self.settings = settings
        self.overwrite = overwrite
        weights = b"".join(path.read_bytes() for path in resolver.weights)
        self._checksum = zlib.crc32(weights)

    def predict(self, source: str, output: str | None = None) -> list[Path]:
        """Enlarge a file, or every map and image of a folder.

        Parameters
        ----------
        source : str
            File or folder.
        output : str, optional
            File or folder to write; default ``NAME_x4.tif`` beside the file, ``NAME_x4/`` beside
            the folder.

        Returns
        -------
        list of pathlib.Path
            The files written.

        Raises
        ------
        ConfigError, DataError
            If the input cannot be used or the output is there. In a folder the other files are
            done first.
        """
        path = Path(source)
        # A mistake in the settings is said once, not for every file.
        self._enhancer((1.0, 1.0) if self.settings.range_mask else None)
        if not path.is_dir():
            return [self._predict_file(path, self._target(path, output))]
        path = path.resolve()
        files = sorted(
            p
            for p in path.iterdir()
            if p.suffix.lower() in self.suffixes and p.is_file() and not p.name.startswith(".")
        )
        if not files:
            raise DataError(
                f"{path}: holds {self.what}. Expected files of the kinds "
                f"{', '.join(self.suffixes)}."
            )
        folder = Path(output) if output else path.with_name(f"{path.name}_x{self.resolver.scale}")
        if folder.is_file():
            raise ConfigError(f"{folder}: is a file; a folder of maps needs a folder as output.")
        return self._predict_folder(files, folder)

    def _predict_folder(self, files: list[Path], folder: Path) -> list[Path]:
        done, failed = [], []
        for number, (target, path) in enumerate(self._targets(files, folder).items(), 1):
            print(f"[{number}/{len(files)}] {path.name}", flush=True)
            if target.exists() and not self.overwrite:
                print(f"  {target} is there already; --overwrite makes it anew")
                done.append(target)
                continue
            try:
                done.append(self._predict_file(path, target))
            except (ToolboxError, OSError) as error:
                print(f"  left out: {error}", flush=True)
                failed.append(path.name)
        if failed:
            raise DataError(
                f"{len(failed)} of {len(files)} files could not be enlarged: {', '.join(failed)}; "
                f"the reasons are above. The others are in {folder}."
            )
        return done

    def _target(self, path: Path, output: str | None) -> Path:
        name = f"{path.stem}_x{self.resolver.scale}{self._suffix(path)}"
        if output is None:
            return path.with_name(name)
        is_folder = Path(output).is_dir() or output.endswith(("/", "\\"))
        return Path(output, name) if is_folder else Path(output)

    def _suffix(self, path: Path) -> str:
        """Return the ending of the result."""
        return default_output_suffix(path)

    def _targets(self, files: list[Path], folder: Path) -> dict[Path, Path]:
        """Return the file of every result; a.npy and a.npz do not become the same."""
        targets: dict[Path, Path] = {}
        for path in files:
            suffix = self._suffix(path)
            target = folder / f"{path.stem}{suffix}"
            targets[folder / f"{path.name}{suffix}" if target in targets else target] = path
        return targets

    def _refuse_target(self, path: Path, target: Path) -> None:
        """Refuse to write over a former result, unless asked to, or over the input."""
        if target.exists() and not self.overwrite:
            raise ConfigError(
                f"{target}: is there already. Replace it with --overwrite, or name another with -o."
            )
        if path.exists() and target.exists() and path.samefile(target):
            raise ConfigError(f"{target}: is the input itself. Name another output with -o.")

    def _predict_file(self, path: Path, target: Path) -> Path:
        s = self.settings
        self._refuse_target(path, target)
        opened = open_map(path, s.variable, s.nodata, s.positive)
        with opened as reader, contextlib.ExitStack() as locks:
            self._check(reader)
            said = len(reader.notes)
            start = time.perf_counter()
            names = tuple(self._bands())
            bands = names if len(names) > reader.channels else ()
            scale = self.resolver.scale
            check_output(target, reader, scale, bands=bands, dtype=s.dtype, cog=s.cog)
            work, figures = self._enlarge(reader, target, locks)
            strips = work.strips()
            write_map(target, reader, scale, strips, bands=bands, dtype=s.dtype, cog=s.cog)
            seconds = time.perf_counter() - start
            for note in reader.notes[said:]:
                print(note)
            self._report(reader, target, work, figures)
            work.remove()
        pixels = work.shape[0] * work.shape[1]
        print(
            f"{target}: {work.shape[1]} × {work.shape[0]} pixels in {seconds:.1f} s "
            f"({pixels / 1e6 / seconds:.2f} Mpixel/s)"
        )
        return target

    def _check(self, reader: MapReader) -> None:
        """Refuse what the network was not made for, and say aloud how the file is understood."""
        resolver = self.resolver
        if reader.channels != resolver.channels:
            raise DataError(
                f"{reader.path}: has {reader.channels} channels; the network was trained on "
                f"{resolver.channels} (input_shape). Choose one with --variable, or use another "
                f"network."
            )
        h, w = reader.shape
        spacing = ""
        if reader.delta_m is not None:
            rows, columns = reader.delta_m
            spacing = f", {rows:.4g} × {columns:.4g} m a pixel"
        print(
            f"{reader.path}: {w} × {h} pixels{spacing}; positive {reader.positive} "
            f"({reader.positive_reason})"
        )
        for note in reader.notes:
            print(note)
        if not reader.is_image and re.match(_NOT_METRES, str(reader.units or ""), re.IGNORECASE):
            print(
                f"WARNING: {reader.path}: its unit is {reader.units}, but the network works in "
                f"metres. Convert the map first, or the result is wrong."
            )
        if reader.dtype.kind in "iu" and not reader.is_image and self.settings.dtype is None:
            print(
                f"the result is rounded to {reader.dtype}, as the input is; --dtype float32 keeps "
                f"the fractions"
            )

    def _bands(self) -> list[str]:
        s = self.settings
        count = self.resolver.channels
        names = ["elevation"] if count == 1 else [f"channel_{i}" for i in range(1, count + 1)]
        if s.standard_deviation:
            names += ["standard_deviation"] if count == 1 else [f"{n}_deviation" for n in names]
        return names + (["outside_training_range"] if s.range_mask else [])

    def _spacing(self, reader: MapReader) -> tuple[float, float] | None:
        """Return the spacing for slopes: that of the file, else that of the training data."""
        if not self.settings.range_mask:
            return None
        validity = self.resolver.validity
        # Without a range the resolver refuses the mask, whatever the spacing.
        return reader.delta_m or (validity.delta_lr_m if validity is not None else (1.0, 1.0))

    def _enhancer(self, spacing: tuple[float, float] | None) -> Callable[[np.ndarray], np.ndarray]:
        s = self.settings
        return self.resolver.enhancer(
            s.self_ensemble, s.standard_deviation, s.lr_consistency, spacing
        )

    def _enlarge(
        self, reader: MapReader, target: Path, locks: contextlib.ExitStack
    ) -> tuple[WorkFile, Figures]:
        """Fill the work file, or what is missing of it."""
        s, resolver = self.settings, self.resolver
        project = s.lr_consistency == "project"
        tiling = resolver.tiling(reader.shape, s.tile, reader.gappy, project)
        enhance = self._enhancer(self._spacing(reader))
        h, w = reader.shape
        shape = (h * resolver.scale, w * resolver.scale, len(self._bands()))
        work = WorkFile(target, shape, self._job(reader, tiling))
        locks.callback(work.release)
        figures = Figures(**work.figures)
        if work.pieces:
            print(f"going on after {100 * work.rows / shape[0]:.0f} % of the rows")
        bar = progress(
            None, "enlarging", total=h * w, initial=work.rows // resolver.scale * w, unit="px",
            unit_scale=True,
        )  # fmt: skip

        def finish(strip: np.ndarray, lr: np.ndarray) -> None:
            outside = None
            if s.range_mask:
                outside = strip[..., -1] = np.rint(strip[..., -1])  # blending has shares
            figures.add(lr, strip[..., : resolver.channels], outside)
            work.append(strip, dataclasses.asdict(figures))

        # A strip is measured and written while the network is at work on the next.
        with bar, ThreadPoolExecutor(1) as writer:
            pending, first = None, work.rows // resolver.scale
            for strip in tiling.strips(reader.read, enhance, work.pieces, bar.update):
                rows = slice(first, first + len(strip) // resolver.scale)
                lr, first = reader.read(rows, slice(0, w)), rows.stop
                if pending is not None:
                    pending.result()
                pending = writer.submit(finish, strip, lr)
            if pending is not None:
                pending.result()
        return work, figures

    def _job(self, reader: MapReader, tiling: Tiling) -> dict[str, Any]:
        """Describe the work; a result of other files or settings is not gone on with."""
        state = reader.path.stat()
        settings = self.settings.model_dump(exclude={"report", "hillshade", "cog", "dtype"})
        return {
            "input": [str(reader.path.resolve()), state.st_size, state.st_mtime_ns],
            "weights": self._checksum,
            "normalizer": self.resolver.normalizer.state(),
            "settings": settings,
            "tiling": dataclasses.asdict(tiling),
        }

    def _report(self, reader: MapReader, target: Path, work: WorkFile, figures: Figures) -> None:
        """Say what the result is worth, and draw it if asked to."""
        if not figures.count:
            print("WARNING: every pixel of the input is missing, and so is every one of the result")
            return
        rmse = float(np.sqrt(figures.squares / figures.count))
        agreement = f"RMS {rmse:.3g}, at most {figures.worst:.3g}"
        print(f"difference between the result, averaged back, and the input: {agreement}")
        warnings = []
        share = 100 * figures.outside / figures.count
        if share >= 0.05:  # less would be printed as 0.0 %
            warnings = [
                f"{share:.1f} % of the input lies outside the depths and slopes of the training "
                f"data"
            ]
            print(f"WARNING: {warnings[0]}")
        pictures = PredictionReport(reader, work, self.resolver.scale)
        if self.settings.hillshade:
            print(f"shaded relief: {pictures.write_hillshade(target)}")
        if self.settings.report:
            table = {
                "difference from the input when averaged back": agreement,
                "range of the result": f"{figures.low:.6g} to {figures.high:.6g}",
                "valid pixels of the input": f"{figures.count}",
            }
            page = pictures.write_page(target, self._facts(reader, target), table, warnings)
            print(f"report: {page}")

    def _facts(self, reader: MapReader, target: Path) -> dict[str, str]:
        """Describe how the result was made."""
        resolver = self.resolver
        given = self.settings.model_dump(exclude_defaults=True)
        return {
            "input": str(reader.path),
            "result": str(target),
            "sign": f"positive {reader.positive} ({reader.positive_reason})",
            "network": f"{resolver.config['model']}, {resolver.physical.count_params()} parameters",
            "trained in": resolver.folder.name,
            "normaliser": resolver.normalizer.name,
            "settings": ", ".join(f"{key}: {value}" for key, value in given.items()) or "defaults",
        }
