"""The example without clean pictures: what its cases have in common, and its table."""

import pytest

from examples.cd_sem.no_clean import CASES, FIGURES, markdown, simulation_of, training_of
from sr_dataset_builder.simulate_sem import SimulationParams
from toolbox.config import check
from toolbox.settings import UserParams


@pytest.mark.parametrize("case", CASES)
def test_cases_differ_by_their_data_alone(case):
    """Every case trains on as many patches, with settings that the program takes."""
    settings = training_of(case)
    checked = UserParams("case.yml", settings)
    frames = CASES[case] or 1
    assert frames * checked.source_params["repeats"] == 8
    assert checked.source_params["target"] == ("pictures" if case == "pairs" else "frames")
    if case == "single":
        assert (checked.loss, checked.metrics) == ("masked_mse", ())


@pytest.mark.parametrize("frames", [8, 2, 1])
def test_stacks_show_the_fields_of_the_pairs(frames):
    """Only training and validation are simulated, from the seed of the pairs."""
    params = check(SimulationParams, simulation_of(frames), "simulate.yml")
    assert (params.train.count, params.train.stack_frames) == (48, frames)
    assert (params.test.count, params.seed) == (0, 0)


def test_a_table_of_figures():
    """One line a case; what is not erased has no wavelength."""
    figures = {"single": {**dict.fromkeys(FIGURES, -1.0), "erased_below_nm": None}}
    *_, line = markdown(figures).splitlines()
    assert (
        line == "| single | −1.00 | −1.000 ± −1.000 | −1.000 | −1.000 | −1.0 | −1.000 | −1.000 |  |"
    )
