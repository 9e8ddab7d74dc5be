"""Rounding of weights, on inputs that go together as neighbouring pixels do."""

import numpy as np
import pytest

from penguin_model import rounding

GROUPS, OUTPUTS, INPUTS = 3, 5, 40


@pytest.fixture
def layer():
    rng = np.random.default_rng(4)
    # Inputs that are mixtures of a few causes, so that one can stand in for another.
    inputs = rng.normal(size=(GROUPS, INPUTS, 6)) @ rng.normal(size=(GROUPS, 6, 2000))
    inputs += 0.1 * rng.normal(size=inputs.shape)
    weights = rng.normal(size=(GROUPS, OUTPUTS, INPUTS)).astype(np.float32) * rng.uniform(0.01, 4, (GROUPS, OUTPUTS, 1))
    return weights, inputs, inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2]


def steps(weights):
    return weights / (np.abs(weights).max(2, keepdims=True) / rounding.LEVELS)


def test_weights_are_whole_steps_and_the_step_stays(layer):
    weights, _, moments = layer
    rounded = rounding.to_grid(weights, moments)
    assert np.abs(steps(rounded) - np.round(steps(rounded))).max() < 1e-3
    np.testing.assert_allclose(np.abs(rounded).max(2), np.abs(weights).max(2), rtol=1e-6)


def test_outputs_change_less_than_by_rounding_to_the_nearest(layer):
    weights, inputs, moments = layer
    nearest = np.round(steps(weights)) * (np.abs(weights).max(2, keepdims=True) / rounding.LEVELS)
    error = [np.square((w - weights) @ inputs).mean() for w in (rounding.to_grid(weights, moments), nearest)]
    assert error[0] < error[1] / 4


def test_an_output_without_weights_and_an_input_without_signal():
    weights, moments = np.zeros((1, 2, 3), np.float32), np.zeros((1, 3, 3))
    weights[0, 1] = 0.5, -0.25, 0.1
    rounded = rounding.to_grid(weights, moments)
    assert (rounded[0, 0] == 0).all()
    np.testing.assert_allclose(rounded[0, 1], weights[0, 1], atol=0.5 / rounding.LEVELS / 2 + 1e-6)
