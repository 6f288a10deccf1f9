"""Pictures have the size, the places and the colours that their numbers ask for."""

import numpy as np
import pytest

from training import pictures


def test_a_grid_magnifies_without_blur_and_leaves_gaps() -> None:
    rows = np.zeros((5, 1, 2, 2))
    rows[4, 0, 0, 1] = 16
    sheet = np.asarray(pictures.grid(rows, (0, 16), columns=3))
    side = pictures.TILE + pictures.GAP
    assert sheet.shape == (2 * side + pictures.GAP, 3 * side + pictures.GAP, 3)
    white = (sheet == 255).all(axis=2)
    top, left = side + pictures.GAP, side + pictures.GAP + pictures.TILE // 2
    assert white.sum() == (pictures.TILE // 2) ** 2
    assert white[top : top + pictures.TILE // 2, left : left + pictures.TILE // 2].all()


def test_values_beyond_the_display_are_black_or_white() -> None:
    sheet = np.asarray(pictures.grid(np.array([-5.0, 99.0]).reshape(2, 1, 1, 1), (0, 16), columns=2))
    assert {0, 255} <= set(np.unique(sheet))


def test_three_channels_stay_colours() -> None:
    red = np.zeros((1, 3, 4, 4))
    red[:, 0] = 255
    assert (np.asarray(pictures.grid(red, (0, 255), columns=1)) == (255, 0, 0)).all(axis=2).any()


def test_heat_goes_from_dark_to_light() -> None:
    colours = pictures.heat(np.linspace(-1, 2, 50)[None])[0].astype(float)
    lightness = colours @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[0] < 5
    assert lightness[-1] > 235


def test_the_mesh_starts_at_the_top_left_and_fills_the_square() -> None:
    points = pictures.mesh((-1.0, -2.0, 1.0, 0.0), 4)
    assert points[0].tolist() == [-0.75, -0.25]
    assert points[1].tolist() == [-0.25, -0.25]
    assert points[-1].tolist() == [0.75, -1.75]


def test_a_density_and_a_scatter_show_the_same_place() -> None:
    box = (-1.0, -1.0, 1.0, 1.0)
    points = pictures.mesh(box, 40)
    spot = np.array([0.5, 0.25])
    log_p = -((points - spot) ** 2).sum(1) / 0.001
    dots = spot + 0.01 * np.random.default_rng(0).standard_normal((500, 2))
    for image, towards in ((pictures.density(log_p), 1), (pictures.scatter(dots, box), -1)):
        light = towards * np.asarray(image.convert("L")).astype(float)
        row, column = np.unravel_index(light.argmax(), light.shape)
        assert (2 * column / pictures.SIDE - 1, 1 - 2 * row / pictures.SIDE) == pytest.approx(spot, abs=0.06)


def test_a_window_is_square_and_holds_nearly_all_points() -> None:
    points = np.random.default_rng(0).standard_normal((2000, 2)) * (3, 1)
    left, bottom, right, top = pictures.window(points)
    assert right - left == pytest.approx(top - bottom)
    inside = ((points > (left, bottom)) & (points < (right, top))).all(axis=1)
    assert inside.mean() > 0.99


@pytest.mark.parametrize("line", [[1.0], [3.0, 3.0], list(np.linspace(9, 1, 200))])
def test_curves_of_any_length_are_drawn(line: list[float]) -> None:
    drawn = np.asarray(pictures.curves({"elbo": line, "bits": [2.0] * len(line)}, "epoch"))
    assert drawn.shape == (480, 900, 3)
    assert drawn.min() < 100


def test_images_stand_beside_each_other_under_their_captions() -> None:
    box = (-1.0, -1.0, 1.0, 1.0)
    one = pictures.scatter(np.zeros((3, 2)), box)
    both = pictures.beside({"left": one, "right": one})
    assert both.width == 2 * one.width + 48
    assert both.height > one.height
