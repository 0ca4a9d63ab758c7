"""The net: blocks do not show, phones may be missing, and the shipped weights are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sayso.engine.features import MELS
from sayso.engine.net import PHONES_AT, REACHES, SPECTRUM_AT, Net, trained_net
from sayso.engine.phones import PHONES
from sayso.engine.shapes import VISEMES


def small_net(width: int = 8) -> Net:
    random = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.5, shape).astype(np.float32)

    return Net(
        spectrum=weights(len(SPECTRUM_AT) * MELS, width),
        phones=weights(len(PHONES_AT), len(PHONES), width),
        first_bias=weights(width),
        hidden=tuple(weights(3 * width, width) for _ in REACHES),
        hidden_bias=tuple(weights(width) for _ in REACHES),
        out=weights(width, len(VISEMES)),
        out_bias=weights(len(VISEMES)),
    )


def inputs(n_frames: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    features = random.normal(0, 1, (n_frames, MELS)).astype(np.float32)
    return features, random.integers(0, len(PHONES), n_frames).astype(np.uint8)


@pytest.mark.parametrize("with_phones", [True, False])
def test_blocks_do_not_change_the_result(*, with_phones: bool) -> None:
    features, phones = inputs(301)
    heard = phones if with_phones else None

    whole = small_net().likelihoods(features, heard)
    in_parts = small_net().likelihoods(features, heard, block=50)

    np.testing.assert_allclose(in_parts, whole, atol=1e-5)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 5, 40])
def test_any_length_gives_likelihoods(n_frames: int) -> None:
    features, phones = inputs(n_frames)

    likelihoods = small_net().likelihoods(features, phones)

    assert likelihoods.shape == (n_frames, len(VISEMES))
    np.testing.assert_allclose(likelihoods.sum(axis=1), 1, atol=1e-5)


def test_phones_matter() -> None:
    features, phones = inputs(30)
    net = small_net()

    assert np.abs(net.likelihoods(features, phones) - net.likelihoods(features, None)).max() > 0.01


def test_shipped_weights_fit_the_engine() -> None:
    net = trained_net()

    assert net.spectrum.shape[0] == len(SPECTRUM_AT) * MELS
    assert net.phones.shape[:2] == (len(PHONES_AT), len(PHONES))
    assert net.out.shape[1] == len(VISEMES)
    assert net.likelihoods(*inputs(50)).shape == (50, len(VISEMES))
