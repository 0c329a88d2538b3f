"""Units of length and angle as files spell them, converted to metres and degrees."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

from toolbox.errors import MissingLibraryError
from toolbox.io.extras import install_command

#: Texts that state no unit.
UNSAID = ("", "none", "unknown", "unspecified", "n/a", "na", "-", "1", "unitless")
_METRES = ("m", "metre", "metres", "meter", "meters")
_FOOT, _SURVEY_FOOT = 0.3048, 1200 / 3937
#: Spellings of surveyors, in metres: pint lacks half of them and has another fathom.
_SURVEYORS = {
    **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), _FOOT),
    **dict.fromkeys(("us survey foot", "us survey feet", "survey foot", "us foot"), _SURVEY_FOOT),
    **dict.fromkeys(("us ft", "ftus", "ft us", "foot us", "sft"), _SURVEY_FOOT),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("fathom", "fathoms", "fath", "fth", "fm", "ftm"), 6 * _FOOT),
}
#: Units of angle, in degrees.
_ANGLES = {
    **dict.fromkeys(("rad", "radian", "radians"), 180 / math.pi),
    **dict.fromkeys(("urad", "µrad", "μrad", "microradian", "microradians"), 180e-6 / math.pi),
    **dict.fromkeys(("grad", "grads", "gon", "gons", "grade", "grades"), 0.9),
}
#: A number before a unit, as in UDUNITS: 1000 m, 1e-3 km.
_MULTIPLE = re.compile(
    r"(\d{1,9}(?:\.\d{0,9})?(?:e[+-]?\d{1,2})?)\s*\*?\s*([^\W\d].*)", re.IGNORECASE
)
#: What may follow a unit: its sign or its reference level.
_REMARK = re.compile(
    r"\s*(?:[(\[,;].*|\b(?:positive|above|below|relative|referred|re|wrt|from|under|over)\b.*)$"
)


@functools.cache
def metres_per_unit(text: str) -> float | None:
    """Return a unit of length in metres.

    Parameters
    ----------
    text : str
        The unit as spelt in the file: ``m``, ``US survey foot``, ``fathoms``, ``km``,
        ``m (positive up)``, ``1000 m``.

    Returns
    -------
    float or None
        None if it is not a known unit of length.

    Raises
    ------
    MissingLibraryError
        If only pint may know the unit and it is not installed.
    """
    unit = _REMARK.sub("", text.strip()).strip()
    if multiple := _MULTIPLE.fullmatch(unit):
        return _times(float(multiple[1]), metres_per_unit(multiple[2]))
    name = re.sub(r"[\s_-]+", " ", unit.lower()).rstrip(".")
    if name in _METRES:
        return 1.0
    if name in _SURVEYORS:
        return _SURVEYORS[name]
    if not re.fullmatch(r"[^\W\d]{1,30}", unit):  # formulas must not be computed
        return None
    for spelling in (unit, unit.lower()):
        try:
            return float(_registry().Quantity(1, spelling).m_as("m"))
        except AttributeError:  # pint's UndefinedUnitError
            continue
        except (TypeError, ValueError):  # pint's DimensionalityError is the first
            return None
    return None


def _times(number: float, unit: float | None) -> float | None:
    return None if unit is None else number * unit or None


def degrees_per_angle(text: str) -> float | None:
    """Return a unit of angle (degrees, rad, microradian, gon, 1e-6 rad) in degrees.

    None if it is not a known one.
    """
    unit = text.strip()
    if is_degrees(unit):
        return 1.0
    if multiple := _MULTIPLE.fullmatch(unit):
        return _times(float(multiple[1]), degrees_per_angle(multiple[2]))
    return _ANGLES.get(unit.lower())


@functools.cache
def _registry() -> Any:
    try:
        import pint
    except ImportError:
        raise MissingLibraryError(
            f"units other than metres, feet, fathoms and km need pint. Run: "
            f"{install_command('geo')}"
        ) from None
    return pint.UnitRegistry(cache_folder=None)


def is_degrees(text: str) -> bool:
    """Whether a unit means degrees of latitude or longitude."""
    sides = r"(_?[neswt]|_north|_east|_true|\b)"
    return bool(re.match(rf"(decimal |arc_?)?deg(ree)?s?{sides}", text.lower()))
