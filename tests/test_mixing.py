"""UGDA: which regions, and that what is pasted is what it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knowsam_lite.errors import UserError
from knowsam_lite.mixing import choose_regions, mix, uncertainty_map


def test_the_unsure_corner_is_found():
    z = torch.zeros(1, 2, 64, 32)
    z[:, 0] = 20  # certain everywhere
    z[:, :, 48:, 24:] = 0  # but in the last cell
    u = uncertainty_map(z)
    assert u.shape == (1, 4, 4) and u[0, 3, 3] == pytest.approx(1) and u.sum() == pytest.approx(1, abs=1e-4)
    assert choose_regions(u, 1)[0, 3, 3]
    assert not choose_regions(u, 15, "certain")[0, 3, 3]


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 16), seed=st.integers(0, 99))
def test_exactly_count_regions_and_they_are_the_extremes(count, seed):
    u = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed))
    for most, sign in (("uncertain", 1), ("certain", -1)):
        chosen = choose_regions(u, count, most)
        assert chosen.sum((1, 2)).tolist() == [count] * 3
        for board, mark in zip(sign * u, chosen, strict=True):
            assert count == 16 or board[mark].min() >= board[~mark].max()


def test_a_grid_that_does_not_divide_is_named():
    with pytest.raises(UserError, match="5 x 5 grid"):
        uncertainty_map(torch.zeros(1, 2, 64, 64), grid=5)


@settings(max_examples=20, deadline=None)
@given(n_l=st.integers(1, 5), n_u=st.integers(1, 5), seed=st.integers(0, 99))
def test_uneven_halves_pair_by_remainder(n_l, n_u, seed):
    """Each image carries its own number, so that every pixel of the result tells where it came from."""
    generator = torch.Generator().manual_seed(seed)
    number_l, number_u = torch.arange(n_l).view(-1, 1, 1), 100 + torch.arange(n_u).view(-1, 1, 1)
    y_l, y_u = number_l.expand(-1, 16, 32), number_u.expand(-1, 16, 32)
    x_l, x_u = (y.unsqueeze(1).expand(-1, 3, -1, -1).float() for y in (y_l, y_u))
    regions_l = torch.rand(n_l, 4, 4, generator=generator) < 0.4
    regions_u = torch.rand(n_u, 4, 4, generator=generator) < 0.4
    x, y = mix(x_l, y_l, x_u, y_u, regions_l, regions_u)
    assert x.shape == (n_l + n_u, 3, 16, 32) and y.shape == (n_l + n_u, 16, 32)
    torch.testing.assert_close(x, y.unsqueeze(1).expand(-1, 3, -1, -1).float())  # labels move with pixels
    cells = torch.cat([regions_l, regions_u]).repeat_interleave(4, 1).repeat_interleave(8, 2)
    for i in range(n_l):
        assert (y[i] == torch.where(cells[i], 100 + i % n_u, i)).all()
    for j in range(n_u):
        assert (y[n_l + j] == torch.where(cells[n_l + j], j % n_l, 100 + j)).all()
