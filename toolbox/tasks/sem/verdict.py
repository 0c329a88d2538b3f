"""Whether restoring helps, is neutral or harms, and why; all outputs repeat these texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

Grade = Literal["helps", "neutral", "harms"]

#: Group of the pictures on which bias and roughness are judged; others belong to a sweep of CDs.
MAIN_GROUP = "lines"
#: Largest share of edges that restoring may lose without harm.
_MOST_LOST = 0.01
#: Share of pictures above which flagged ones count as harm, and above which pictures left out
#: prevent a verdict.
_MOST_FLAGGED, _MOST_LEFT_OUT = 0.5, 0.5
#: Excess over the bias of the raw picture that counts as harm, as a share of the tolerance.
_MOST_EXCESS = 0.25
#: Errors of the unbiased LWR above which restoring does not help, and harms, per cent; and by how
#: much they must exceed that of the raw picture, percentage points.
_LWR_DOUBTFUL, _LWR_HARMFUL, _LWR_WORSE = 10.0, 20.0, 5.0
#: Largest share of the variance of the roughness that may be erased.
_MOST_ERASED = 0.1


class Finding(NamedTuple):
    """One reason for a verdict.

    Attributes
    ----------
    grade : {'helps', 'neutral', 'harms'}
        The best grade that it allows.
    text : str
        The reason.
    gate : bool
        Whether it fails the do-no-harm test.
    """

    grade: Grade
    text: str
    gate: bool = False


class Judgement:
    """Derives a verdict from the results of a test.

    Parameters
    ----------
    figures : dict
        Figures by method as in ``summary.json``: ``cd_bias_nm``, ``cd_bias_ci95_nm``, ``cd_slope``,
        ``edge_error_nm`` and, for lines, ``unbiased_lwr_error_percent`` and ``psd_transfer``; also
        ``left_out``, the names of pictures that could not be judged.
    table : pandas.DataFrame
        Columns ``name``, ``group``, ``method``, ``reference_cd_nm``, ``cd_bias_nm`` and, for lines,
        ``lost_share``, with a row for each object and method.
    spectra : pandas.DataFrame
        ``frequency_per_nm`` and ``truth``, nm³; may be empty.
    tolerance_nm : float
        Largest change of the CD that counts as harmless.
    labels : dict of str to str
        Names of the methods.
    unit : str
        Unit of all lengths, ``nm`` or ``px``.
    fields : dict of str to str, optional
        Field of each picture, by name; by default each picture shows a different field.
    """

    def __init__(
        self,
        figures: Mapping[str, Any],
        table: pd.DataFrame,
        spectra: pd.DataFrame,
        tolerance_nm: float,
        labels: Mapping[str, str],
        unit: str = "nm",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self._figures, self._table, self._spectra = figures, table, spectra
        self._tolerance, self._labels, self._unit = tolerance_nm, labels, unit
        self._fields = fields
        self._what = "diameter" if figures.get("measured") == "discs" else "CD"
        self._restored = table[table["method"] == "restored"]

    def summary(self) -> dict[str, Any]:
        """Return the entries ``do_no_harm`` and ``verdict`` of ``summary.json``."""
        changes = self._changes()
        flagged = self._flagged()
        found = [
            *self._width_findings(changes),
            *self._lost_edges(),
            *self._many_flagged(flagged),
            *self._many_left_out(),
            *self._beyond_raw(),
            *self._roughness(),
        ]
        reasons = [finding.text for finding in found if finding.gate]
        found += self._precision()
        grades = {finding.grade for finding in found}
        grade = next((g for g in ("harms", "neutral") if g in grades), "helps")
        return {
            "do_no_harm": {
                "tolerance_nm": self._tolerance,
                "largest_likely_cd_change_nm": max(changes.values()) if changes else None,
                "verdict": "fail" if reasons else "pass",
                "reasons": reasons,
                "flagged": flagged,
            },
            "verdict": {
                "grade": grade,
                "title": f"Restoring {grade}" if grade != "neutral" else "Restoring is neutral",
                "reasons": [finding.text for finding in found if finding.grade == grade],
            },
        }

    def _bias(self, method: str) -> tuple[float | None, float | None]:
        return tuple(  # type: ignore[return-value]
            self._figures[key].get(method) for key in ("cd_bias_nm", "cd_bias_ci95_nm")
        )

    def _flagged(self, method: str = "restored") -> list[str]:
        """Return the pictures in which a width changed too much or was lost."""
        own = self._table[self._table["method"] == method]
        sizes = own["cd_bias_nm"].abs()
        lost = _lost_share(own) > _MOST_LOST
        return sorted(set(own[(sizes > self._tolerance) | sizes.isna() | lost]["name"]))

    def _changes(self) -> dict[str, float]:
        """Return how much restoring may change widths, by cause; empty if unknown."""
        bias, ci95 = self._bias("restored")
        if bias is None or ci95 is None:
            return {}
        restored = self._restored
        changes = {f"mean {self._what}": abs(bias) + ci95}
        for group, own in restored.groupby("group"):
            if group != MAIN_GROUP and own["cd_bias_nm"].notna().any():
                mean = abs(float(own["cd_bias_nm"].mean()))
                changes[f"mean {self._what} of {group}"] = mean
        if self._figures["cd_slope"].get("restored") is not None:
            known = restored.dropna(subset=["cd_bias_nm"])
            true = known["reference_cd_nm"].to_numpy(float)
            tilt = stats.linregress(true, known["cd_bias_nm"].to_numpy(float)).slope
            half = abs(float(tilt)) * float(np.ptp(true)) / 2
            changes[f"slope over half the range of {self._what}s"] = half
        return changes

    def _width_findings(self, changes: Mapping[str, float]) -> list[Finding]:
        bias, ci95 = self._bias("restored")
        if bias is None:
            return [Finding("harms", "no width could be measured", gate=True)]
        if ci95 is None:
            what = "one picture has no confidence interval"
            if self._restored["name"].nunique() > 1:
                what = "one field has no confidence interval, however many pictures show it"
            return [Finding("neutral", what, gate=True)]
        if max(changes.values()) <= self._tolerance:
            return []
        worst = max(changes, key=lambda name: changes[name])
        text = f"{worst}: {changes[worst]:.3g} {self._unit}"
        shown = abs(bias) > self._tolerance or self._is_shown(worst)
        return [Finding("harms" if shown else "neutral", text, gate=True)]

    def _is_shown(self, cause: str) -> bool:
        """Tell whether a change is significant, and not merely within a wide interval."""
        if cause.startswith("slope"):
            slope, ci95 = (self._figures[key]["restored"] for key in ("cd_slope", "cd_slope_ci95"))
            return ci95 is not None and bool(abs(slope - 1) > ci95)
        return " of " in cause

    def _lost_edges(self) -> list[Finding]:
        share = _lost_share(self._restored)
        # A width that can no longer be measured is the greatest harm.
        if not len(share) or not (share.mean() > _MOST_LOST or (share > _MOST_LOST).any()):
            return []
        text = f"{100 * float(share.mean()):.2g} % of the edges are lost"
        return [Finding("harms", text, gate=True)]

    def _many_flagged(self, flagged: list[str]) -> list[Finding]:
        count, raw = self._restored["name"].nunique(), len(self._flagged("raw"))
        if len(flagged) <= _MOST_FLAGGED * count:
            return []
        text = f"{len(flagged)} of {count} pictures are flagged; of the raw ones, {raw} would be"
        # If noise flags as many raw pictures, restoring does not harm, but does not help either.
        return [Finding("harms" if len(flagged) > raw else "neutral", text, gate=True)]

    def _many_left_out(self) -> list[Finding]:
        """Return a finding if most pictures could not be judged, because references are missing."""
        left, count = len(self._figures.get("left_out") or ()), self._restored["name"].nunique()
        if left <= _MOST_LEFT_OUT * (left + count):
            return []
        text = f"{left} of {left + count} pictures are left out, more than half"
        return [Finding("neutral", text, gate=True)]

    def _beyond_raw(self) -> list[Finding]:
        """Return a finding if the mean width is farther from the reference than in raw pictures."""
        excess = excess_over_raw(self._table, self._fields)
        if excess is None or excess.low_nm <= 0:
            return []
        mean = {name: self._signed(self._bias(name)[0]) for name in ("restored", "raw")}
        text = (
            f"the mean {self._what} is off by {mean['restored']}, in the raw pictures by "
            f"{mean['raw']}: significantly more"
        )
        harmful = excess.mean_nm > _MOST_EXCESS * self._tolerance
        return [Finding("harms" if harmful else "neutral", text, gate=True)]

    def _roughness(self) -> list[Finding]:
        errors = self._figures.get("unbiased_lwr_error_percent") or {}
        own, raw = errors.get("restored"), errors.get("raw")
        found = []
        limit = max(_LWR_DOUBTFUL, 0.0 if raw is None else abs(raw) + _LWR_WORSE)
        if own is not None and abs(own) > limit:
            harmful = abs(own) > _LWR_HARMFUL
            beside = "" if raw is None else f", in the raw pictures by {_percent(raw)}"
            text = f"the unbiased LWR is off by {_percent(own)}{beside}"
            found.append(Finding("harms" if harmful else "neutral", text, gate=harmful))
        transfer = (self._figures.get("psd_transfer") or {}).get("restored") or {}
        share = self._erased_share(transfer.get("erased_below_nm"))
        if share > _MOST_ERASED:
            text = (
                f"wavelengths near and below {transfer['erased_below_nm']:.1f} {self._unit} are "
                f"erased, which contain {100 * share:.0f} % of the roughness"
            )
            found.append(Finding("neutral", text))
        return found

    def _erased_share(self, below_nm: float | None) -> float:
        """Return the share of the true variance at wavelengths that were erased."""
        if below_nm is None or "truth" not in self._spectra:
            return 0.0
        true = self._spectra["truth"].to_numpy(float)
        erased = 1 / self._spectra["frequency_per_nm"].to_numpy(float) <= below_nm
        return float(true[erased].sum() / true.sum()) if true.sum() > 0 else 0.0

    def _precision(self) -> list[Finding]:
        """Return whether edges are more precise than in raw and in filtered pictures."""
        errors = dict(self._figures.get("edge_error_nm") or {})
        own = errors.pop("restored", None)
        others = {name: error for name, error in errors.items() if error is not None}
        what = "diameters" if self._what == "diameter" else "edges"
        if own is None or "raw" not in others:
            return [Finding("neutral", f"the precision of the {what} is not known")]
        best = min(others, key=lambda name: others[name])
        if own >= others[best]:
            text = (
                f"the {what} are not more precise than in: {self._labels[best]} "
                f"({own:.3g} against {others[best]:.3g} {self._unit})"
            )
            return [Finding("neutral", text)]
        text = (
            f"the {what} are {others['raw'] / max(own, 1e-9):.2g} times as precise as in the raw "
            f"pictures ({own:.3g} against {others['raw']:.3g} {self._unit})"
        )
        found = [Finding("helps", text)]
        bias = {name: self._bias(name)[0] for name in ("restored", "raw")}
        if None not in bias.values():
            own, raw = (self._signed(bias[name]) for name in ("restored", "raw"))
            text = f"the mean {self._what} is off by {own}, in the raw pictures by {raw}"
            found.append(Finding("helps", text))
        return found

    def _signed(self, value: float | None) -> str:
        return f"{value or 0.0:+.3f} {self._unit}".replace("-", "−")


class Excess(NamedTuple):
    """How much farther restored widths are from the reference than raw ones, nm.

    Attributes
    ----------
    mean_nm : float
        ``|mean bias restored| − |mean bias raw|``.
    low_nm : float
        Lower end of its 95 % confidence interval, from the differences within fields.
    """

    mean_nm: float
    low_nm: float


def excess_over_raw(table: pd.DataFrame, fields: Mapping[str, str] | None = None) -> Excess | None:
    """Compare the biases of restored and raw pictures, field by field (paired t).

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``name``, ``group``, ``method`` and ``cd_bias_nm``.
    fields : dict of str to str, optional
        Field of each picture, by name; by default each picture shows a different field.

    Returns
    -------
    Excess or None
        None if fewer than two fields can be measured in both.
    """
    main = table[table["group"] == MAIN_GROUP]
    main = main if len(main) else table
    means = main.groupby(["name", "method"])["cd_bias_nm"].mean().unstack()
    if not {"raw", "restored"} <= set(means):
        return None
    both = means[["restored", "raw"]].dropna()
    if fields is not None:
        both = both.groupby(fields.__getitem__).mean()
    own, raw = both.to_numpy(float).T
    if len(own) < 2:
        return None
    farther = np.sign(own.mean()) * own - np.sign(raw.mean()) * raw
    error = farther.std(ddof=1) / np.sqrt(len(farther))
    mean = float(farther.mean())
    return Excess(mean, mean - float(stats.t.ppf(0.975, len(farther) - 1) * error))


def _lost_share(table: pd.DataFrame) -> pd.Series:
    """Return the share of lost edges by row; for discs, whether the disc is lost."""
    share: pd.Series = table.get("lost_share", table["cd_bias_nm"].isna().astype(float))
    return share


def _percent(value: float) -> str:
    return f"{value:+.1f} %".replace("-", "−")
