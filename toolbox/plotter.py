"""Pictures: training history, test images, errors by group, power spectra."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from toolbox.io.atomic import replacing
from toolbox.registry import LARGER_IS_BETTER
from toolbox.style import Style

_COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue")
#: Label and colour of each compared method, in the order of tables and pictures.
METHODS = {
    "bicubic": ("bicubic", "0.6"),
    "back_projection": ("back-projected bicubic", "tab:orange"),
    "pixel_stage": ("pixel stage", "tab:green"),
    "sr": ("super-resolution", "tab:blue"),
}
_TRUTH = ("truth", "black")
#: Columns of a history without a panel of their own as metrics.
_NO_PANEL = ("loss", "g_loss", "d_loss", "d_real", "d_fake", "learning_rate")


def save_figure(figure: Figure, fname: str | os.PathLike[str] | None, dpi: int = 100) -> None:
    """Write a figure, completely or not at all, or show it if `fname` is None."""
    if fname is None:
        import matplotlib.pyplot as plt

        manager = plt.figure().canvas.manager
        if manager is not None:
            manager.canvas.figure = figure
        plt.show()
        return
    with replacing(fname) as beside:
        figure.savefig(beside, dpi=dpi)


class Plotter:
    """Draws training history and test results with Matplotlib."""

    def __setup_ax(
        self,
        ax: Axes,
        xlabel: str,
        ylabel: str,
        xscale_log: bool = False,
        yscale_log: bool = False,
        fontsize: int = 9,
        labelsize: int = 8,
    ) -> None:
        """Set labels, scales and sizes of one axis."""
        ax.set_xlabel(xlabel, fontsize=fontsize)
        ax.set_ylabel(ylabel, fontsize=fontsize)
        ax.tick_params(labelsize=labelsize)
        ax.grid(alpha=0.3)
        if xscale_log:
            ax.set_xscale("log")
        if yscale_log:
            ax.set_yscale("log")

    def __pair_plot(
        self,
        ax: Axes,
        x: Sequence[float],
        y: Sequence[np.ndarray],
        labels: Sequence[str],
        color: str,
    ) -> None:
        """Plot the training curve dashed and the validation curve solid."""
        marker = "o" if len(x) < 3 else ""
        for values, label, style in zip(y, labels, ("--", "-"), strict=False):
            ax.plot(x, values, style, label=label, color=color, marker=marker, linewidth=1.2)
        ax.legend(fontsize=8)

    def __mark_stage(
        self, ax: Axes, epochs: Sequence[float], logs: Mapping[str, Sequence[float | None]]
    ) -> None:
        """Use whole epochs on the axis, and mark the start of the adversarial stage with a line."""
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        before = sum(value is None for value in logs.get("d_loss", ()))
        if 0 < before < len(epochs):
            ax.axvline(epochs[before] - 0.5, color="0.4", linestyle=":", linewidth=1)

    def plot_history_graph(
        self,
        epochs: Sequence[int],
        logs: Mapping[str, Sequence[float | None]],
        save_fname: str | os.PathLike[str] | None,
    ) -> None:
        """Plot the loss and every metric of training and validation data over the epochs.

        An adversarial run shows the losses of generator and discriminator instead, and the
        discriminator's mean verdicts D(real) and D(fake).

        Parameters
        ----------
        epochs : sequence of int
            Epoch numbers.
        logs : dict of str to sequence of float
            History, e.g. ``{'loss': [...], 'val_loss': [...], 'psnr': [...]}``; None for epochs
            without the figure.
        save_fname : path-like or None
            Picture to write; None shows a window.
        """
        losses = [name for name in ("g_loss", "d_loss") if name in logs] or ["loss"]
        verdicts = [name for name in ("d_real", "d_fake") if name in logs]
        # Every metric has a panel, in the order of the history.
        others = [name.removeprefix("val_") for name in logs if name not in _NO_PANEL]
        metrics = [name for name in others if name not in (*losses, *verdicts, *_NO_PANEL)]
        names = [name for name in dict.fromkeys((*losses, *metrics)) if name in logs]
        panels = len(names) + bool(verdicts)
        columns = min(panels, 4)
        rows = -(-panels // columns)
        figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
        units = {"psnr": "PSNR (dB)", "ssim": "SSIM", "dssim": "DSSIM"}
        for i, name in enumerate(names):
            ax = figure.add_subplot(rows, columns, i + 1)
            pair = [key for key in (name, f"val_{name}") if key in logs]
            curves = [np.asarray(logs[key], float) for key in pair]
            finite = np.concatenate(curves)
            finite = finite[np.isfinite(finite)]
            log_scale = name not in LARGER_IS_BETTER and bool(len(finite)) and finite.min() > 0
            self.__setup_ax(ax, "epoch", units.get(name, name), yscale_log=log_scale)
            self.__pair_plot(ax, epochs, curves, pair, _COLOURS[i % len(_COLOURS)])
            self.__mark_stage(ax, epochs, logs)
        if verdicts:
            ax = figure.add_subplot(rows, columns, panels)
            self.__setup_ax(ax, "epoch", "mean verdict (1: true)")
            ax.set_ylim(-0.03, 1.03)
            for name, label, color in zip(
                verdicts, ("D(real)", "D(fake)"), ("tab:green", "tab:red"), strict=False
            ):
                pair = [key for key in (name, f"val_{name}") if key in logs]
                curves = [np.asarray(logs[key], float) for key in pair]
                self.__pair_plot(ax, epochs, curves, [label, f"{label}, validation"], color)
            self.__mark_stage(ax, epochs, logs)
        save_figure(figure, save_fname)

    def plot_test_imgs(
        self,
        imgs: Sequence[np.ndarray],
        labels: Sequence[str],
        save_fname: str | os.PathLike[str] | None,
        figsize: tuple[float, float] = (8, 8),
        fontsize: int = 9,
        labelsize: int = 8,
        textsize: int = 7,
        texts: Mapping[str, Sequence[str]] | None = None,
        titles: Sequence[str] | None = None,
        style: Style = Style(),  # noqa: B008 - frozen
    ) -> None:
        """Show each test image in one column: input, enlargements, truth, errors.

        Parameters
        ----------
        imgs : sequence of numpy.ndarray, each (images, H, W, C)
            One array for each group; groups whose name ends in "error" share a diverging scale.
            Images of three channels are shown in colour, and their errors as the mean.
        labels : sequence of str
            Group names, e.g. ``['low-res', 'bicubic', 'super-res', 'high-res']``.
        save_fname : path-like or None
            Picture to write; None shows a window.
        figsize : (float, float)
            Size in inches.
        fontsize, labelsize, textsize : int
            Sizes of titles, ticks and the text inside the images.
        texts : dict of str to sequence of str, optional
            Lines written into the images of a group.
        titles : sequence of str, optional
            Heading of each column.
        style : Style
            Unit and colours.
        """
        rows, columns = len(imgs), len(imgs[0])
        figure = Figure(figsize=figsize, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        errors = [i for i, label in enumerate(labels) if label.endswith("error")]
        values = [i for i in range(rows) if i not in errors]
        for column in range(columns):
            for group, cmap in ((values, style.cmap), (errors, "RdBu_r")):
                if not group:
                    continue
                stack = [_shown(imgs[row][column], is_error=group is errors) for row in group]
                low, high = _limits(stack, symmetric=group is errors)
                for row, img in zip(group, stack, strict=True):
                    ax = axes[row][column]
                    if img.ndim == 3:
                        img = np.clip((img - low) / ((high - low) or 1.0), 0, 1)
                    drawn = ax.imshow(img, cmap=cmap, vmin=low, vmax=high)
                    ax.set(xticks=[], yticks=[])
                    if texts and labels[row] in texts:
                        _write_inside(ax, texts[labels[row]][column], textsize)
                if stack[0].ndim == 3:
                    continue  # colours need no scale
                bar = figure.colorbar(
                    drawn, ax=[axes[row][column] for row in group], aspect=40, pad=0.02
                )
                bar.ax.tick_params(labelsize=labelsize - 1)
                label = style.with_unit("error") if group is errors else style.unit
                bar.set_label(label, fontsize=labelsize - 1)
            axes[0][column].set_title(titles[column] if titles else "", fontsize=fontsize)
        for row, label in enumerate(labels):
            axes[row][0].set_ylabel(label, fontsize=fontsize)
        save_figure(figure, save_fname)

    def plot_errors(
        self,
        groups: Mapping[str, Mapping[str, Any]],
        pairs: tuple[np.ndarray, np.ndarray],
        save_fname: str | os.PathLike[str] | None,
        measure: str = "rmse",
        unit: str = "",
        kind: str = "group",
    ) -> None:
        """Draw RMSE by group and method, and each test image's RMSE against bicubic's.

        Parameters
        ----------
        groups : dict
            By group name: ``n``, and the figures of each method of `METHODS`.
        pairs : (numpy.ndarray, numpy.ndarray), each (N,)
            RMSE of every test image, for bicubic and for super-resolution.
        save_fname : path-like or None
            Picture to write; None shows a window.
        measure : str
            Key of the RMSE among the figures.
        unit, kind : str
            Unit of the errors, and label of the groups.
        """
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        bars, scatter = figure.subplots(1, 2)
        groups = {name: group for name, group in groups.items() if group["n"]}
        methods = [method for method in METHODS if all(method in g for g in groups.values())]
        width = 0.81 / len(methods)
        for i, method in enumerate(methods):
            heights = [group[method][measure] for group in groups.values()]
            left = np.arange(len(groups)) + (i - len(methods) / 2) * width
            label, colour = METHODS[method]
            bars.bar(left, heights, width, align="edge", color=colour, label=label)
        bars.set_xticks(
            range(len(groups)),
            [f"{_readable(name)}\nn = {group['n']}" for name, group in groups.items()],
        )
        columns = 2 if len(methods) == 4 else 3
        bars.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns)
        rmse = f"RMSE ({unit})" if unit else "RMSE"
        self.__setup_ax(bars, kind, rmse)
        x, y = pairs
        scatter.plot(x, y, ".", markersize=4, color=METHODS["sr"][1])
        reach = [0, 1.05 * max(x.max(), y.max())]
        scatter.plot(reach, reach, "-", color="0.4", linewidth=1)
        better = int((y < x).sum())
        scatter.set_title(f"{better} of {len(x)} images better than bicubic", fontsize=9)
        self.__setup_ax(scatter, f"bicubic {rmse}", f"super-resolution {rmse}")
        save_figure(figure, save_fname)

    def plot_spectrum(
        self,
        frequency: np.ndarray,
        powers: Mapping[str, np.ndarray],
        save_fname: str | os.PathLike[str] | None,
        nyquist: Sequence[float] = (),
        unit: str = "pixel",
        of: str = "",
    ) -> None:
        """Draw power spectra of the truth and of each method.

        Parameters
        ----------
        frequency : numpy.ndarray, shape (K,)
            Cycles per `unit`, above zero.
        powers : dict of str to numpy.ndarray, each (K,)
            Power spectral density, of² · unit², for ``truth`` and for methods of `METHODS`.
        save_fname : path-like or None
            Picture to write; None shows a window.
        nyquist : sequence of float
            Nyquist frequencies of the low-resolution grid, cycles per `unit`; two if the spacings
            of its rows and columns differ.
        unit : str
            Unit of length, ``m`` or ``pixel``.
        of : str
            Unit of the values.
        """
        figure = Figure(figsize=(6, 4.2), layout="constrained")
        ax = figure.subplots()
        log_scale = any((power > 0).any() for power in powers.values())
        labels = f"frequency (cycles/{unit})", f"power spectral density ({of and of + '²·'}{unit}²)"
        self.__setup_ax(ax, *labels, xscale_log=True, yscale_log=log_scale)
        ax.set_xlim(0.9 * frequency[0], 1.1 * frequency[-1])
        for name, (label, colour) in {"truth": _TRUTH, **METHODS}.items():
            if name in powers:
                width = 2.2 if name == "truth" else 1.4
                ax.plot(frequency, powers[name], color=colour, label=label, linewidth=width)
        for i, limit in enumerate(nyquist):
            text = "_" if i else "low-resolution Nyquist"
            ax.axvline(limit, color="0.4", linestyle="--", linewidth=1, label=text)
        ax.legend(fontsize=8, loc="lower left")
        top = ax.secondary_xaxis("top", functions=(_wavelength, _wavelength))
        top.set_xlabel(f"wavelength ({unit})", fontsize=9)
        top.tick_params(labelsize=8)
        for axis in (ax.xaxis, top.xaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        save_figure(figure, save_fname)


def _shown(img: np.ndarray, is_error: bool) -> np.ndarray:
    """Return an image as (H, W), or as (H, W, 3) if it is in colour."""
    pixels = np.asarray(img, np.float32)
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    return pixels.mean(axis=-1) if is_error or pixels.shape[-1] != 3 else pixels


def _wavelength(frequency: ArrayLike) -> ArrayLike:
    """Convert frequency to wavelength or back; Matplotlib also converts 0 before it draws."""
    with np.errstate(divide="ignore"):
        return np.reciprocal(np.asarray(frequency, float))


def _readable(group: str) -> str:
    """Return an open range of values, ``0.1-``, in readable form."""
    return f"≥ {group[:-1]}" if group.endswith("-") else group


def _limits(stack: list[np.ndarray], symmetric: bool) -> tuple[float, float]:
    if symmetric:
        reach = max(float(np.percentile(np.abs(img), 99)) for img in stack) or 1.0
        return -reach, reach
    truth = stack[-1]
    return float(truth.min()), float(truth.max())


def _write_inside(ax: Axes, text: str, textsize: int) -> None:
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
    ax.text(0.02, 0.02, text, transform=ax.transAxes, fontsize=textsize, va="bottom", bbox=box)
