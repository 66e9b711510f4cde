"""data/augmentation.py, warping.py and random_eraser.py.

Against NumPy, SciPy, places and rules worked out by hand.
"""

import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.stats import ks_2samp

from data.augmentation import Augmentation, augment, load_augmented
from data.geometry import Preprocessing
from data.warping import Movement, Warp, move_to_square
from random_eraser import random_eraser

EVERYTHING = Augmentation(True, True, 0.1, 20.0, 0.2, 1.0)


def noise(size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def fixed(*, flip_x=1.0, flip_y=1.0, shift_x=0.5, shift_y=0.5, turn=0.5, scaling=0.5, warp=0.0):
    """A generator whose draws are given: below 0.5 flips, 0 to 1 is all one way to the other."""
    draws = np.array([flip_x, flip_y, shift_x, shift_y, turn, scaling, warp])

    def random(size=None):
        if size is None:
            return 1.0  # the chance of erasing; never below the probability 0
        assert size == len(draws)
        return draws.copy()

    return SimpleNamespace(random=random)


def spot(x, y, size=65):
    """A black picture with a bright spot of 3 x 3 pixels about (x, y)."""
    image = np.zeros((size, size, 3), np.uint8)
    image[y - 1 : y + 2, x - 1 : x + 2] = 200
    return image


def place(image):
    """(x, y) of the spot, as its centre of mass."""
    mass = image[..., 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return (x * mass).sum() / mass.sum(), (y * mass).sum() / mass.sum()


def near(found, expected):
    return np.allclose(found, expected, atol=0.15)


# Augmentation


def test_defaults_change_nothing():
    for seed in range(20):
        image = noise()
        result = augment(image, Augmentation(), np.random.default_rng(seed))
        assert result is image
        assert np.array_equal(image, noise())


def test_a_warp_by_nothing_changes_nothing():
    image = noise(33)
    augment(image, Augmentation(shift=0.2, rotation=30.0, zoom=0.2), fixed())
    assert np.array_equal(image, noise(33))


def test_happens_in_place_and_keeps_the_neighbours():
    batch = np.stack([noise(seed=n) for n in range(3)])
    before = batch.copy()
    row = batch[1]
    assert augment(row, EVERYTHING, np.random.default_rng(0)) is row
    assert np.array_equal(batch[[0, 2]], before[[0, 2]])
    assert not np.array_equal(batch[1], before[1])


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("flip_x, flip_y, flipped", [
    (0.0, 1.0, lambda a: a[:, ::-1]),
    (1.0, 0.0, lambda a: a[::-1]),
    (0.0, 0.0, lambda a: a[::-1, ::-1]),
    (0.5, 0.5, lambda a: a),
])
def test_flips_are_numpys(size, flip_x, flip_y, flipped):
    both = Augmentation(horizontal_flip=True, vertical_flip=True)
    for rotation in (0.0, 30.0):  # alone, and as a part of the affine map turned by 0 degrees
        image = noise(size)
        augment(image, both._replace(rotation=rotation), fixed(flip_x=flip_x, flip_y=flip_y))
        assert np.array_equal(image, flipped(noise(size)))


def test_flips_that_are_off_do_not_happen():
    image = noise()
    augment(image, Augmentation(horizontal_flip=True), fixed(flip_y=0.0))
    augment(image, Augmentation(vertical_flip=True), fixed(flip_x=0.0))
    assert np.array_equal(image, noise())


def test_shift():
    # A quarter of 64 pixels is 16, either way and in both directions.
    for x, y, expected in ((1.0, 0.5, (48, 20)), (0.0, 0.5, (16, 20)), (0.5, 1.0, (32, 36)),
                           (0.75, 0.25, (40, 12))):
        image = spot(32, 20, 64)
        augment(image, Augmentation(shift=0.25), fixed(shift_x=x, shift_y=y))
        assert near(place(image), expected)


def test_zoom_about_the_centre():
    # The spot lies 16 right of and 8 above the centre (32, 32).
    for scaling, expected in ((1.0, (56, 20)), (0.0, (40, 28)), (0.75, (52, 22))):
        image = spot(48, 24)
        augment(image, Augmentation(zoom=0.5), fixed(scaling=scaling))
        assert near(place(image), expected)


def test_rotation_about_the_centre():
    # (48, 32) turned by 90 degrees comes to lie 16 below or above the centre; by 30 degrees,
    # 16 * cos 30 = 13.86 right of it and 8 below or above.
    for degrees, expected in ((90.0, [(32, 16), (32, 48)]), (30.0, [(45.86, 24), (45.86, 40)])):
        found = []
        for turn in (0.0, 1.0):
            image = spot(48, 32)
            augment(image, Augmentation(rotation=degrees), fixed(turn=turn))
            found.append(place(image))
        assert near(sorted(found, key=lambda at: at[1]), expected)


def test_rotation_turns_every_point_by_the_same_angle():
    for turn in (0.0, 1.0):
        turned = []
        for x, y in ((48, 32), (32, 16), (20, 40), (24, 20)):
            image = spot(x, y)
            augment(image, Augmentation(rotation=30.0), fixed(turn=turn))
            before, after = complex(x - 32, y - 32), complex(*place(image)) - complex(32, 32)
            assert abs(abs(after) - abs(before)) < 0.15
            turned.append(np.angle(after / before, deg=True))
        assert np.allclose(turned, 30, atol=0.7) or np.allclose(turned, -30, atol=0.7)


@pytest.mark.parametrize("flip_x", [0.0, 1.0])
@pytest.mark.parametrize("flip_y", [0.0, 1.0])
def test_flip_and_rotation_together_are_one_after_the_other(flip_x, flip_y):
    rotation = Augmentation(rotation=30.0)
    together, apart = spot(48, 24), spot(48, 24)
    augment(
        together, rotation._replace(horizontal_flip=True, vertical_flip=True),
        fixed(flip_x=flip_x, flip_y=flip_y, turn=1.0),
    )
    if flip_x < 0.5:
        apart = apart[:, ::-1].copy()
    if flip_y < 0.5:
        apart = apart[::-1].copy()
    augment(apart, rotation, fixed(turn=1.0))
    assert near(place(together), place(apart))


@pytest.mark.parametrize("size", [64, 65])
def test_a_turn_by_180_degrees_is_both_flips(size):
    image = noise(size)
    augment(image, Augmentation(rotation=180.0), fixed(turn=1.0))
    assert np.array_equal(image, noise(size)[::-1, ::-1])


def test_flip_comes_before_the_other_moves():
    # Mirrored to (16, 32), then zoomed to (8, 32), then shifted by 13 to the right.
    image = spot(48, 32)
    options = Augmentation(horizontal_flip=True, shift=0.2, zoom=0.5)
    augment(image, options, fixed(flip_x=0.0, shift_x=1.0, scaling=1.0))
    assert near(place(image), (21, 32))


def test_outside_repeats_the_border():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:] = (np.arange(20) * 10)[None, :, None]
    augment(image, Augmentation(shift=0.25), fixed(shift_x=1.0))  # 5 pixels to the right
    assert (image[..., 0] == np.maximum(np.arange(20) - 5, 0) * 10).all()


def test_channels_stay_in_their_places():
    image = np.full((16, 16, 3), (250, 120, 10), np.uint8)
    augment(image, EVERYTHING._replace(random_eraser=0.0), np.random.default_rng(4))
    assert (image == (250, 120, 10)).all()


def test_shares_of_the_images():
    """Half are flipped, three quarters are warped; four deviations of 600 draws are allowed."""
    original = noise(8)
    flipped = warped = 0
    for seed in range(600):
        image = original.copy()
        augment(image, Augmentation(horizontal_flip=True), np.random.default_rng(seed))
        flipped += not np.array_equal(image, original)
        image = original.copy()
        augment(image, Augmentation(rotation=90.0), np.random.default_rng(seed))
        warped += not np.array_equal(image, original)
    assert abs(flipped / 600 - 0.5) < 4 * math.sqrt(0.25 / 600)
    assert abs(warped / 600 - 0.75) < 4 * math.sqrt(0.1875 / 600)


def test_draws_stay_within_their_bounds():
    """Spots stay within the largest shift, and come near to it, either way."""
    found = []
    for seed in range(300):
        image = spot(32, 32)
        augment(image, Augmentation(shift=0.2), np.random.default_rng(seed))
        found.append(place(image))
    moved = np.array(found) - 32
    assert np.abs(moved).max() <= 13.15  # 0.2 of 65
    assert (moved.min(axis=0) < -12).all() and (moved.max(axis=0) > 12).all()


def test_repeatable_from_the_generator():
    one, two, other = noise(), noise(), noise()
    augment(one, EVERYTHING, np.random.default_rng(5))
    augment(two, EVERYTHING, np.random.default_rng(5))
    augment(other, EVERYTHING, np.random.default_rng(6))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


# Resizing and moving in one pass

FILL = (10, 200, 90)


def smooth(height, width):
    """A picture of slow waves, which one resampling and two show nearly alike."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * y - x), np.sin(6 * x * y)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def moved_by_scipy(image, size, resize, movement):
    """The moved square: each pixel is traced back through shift, zoom, turn, flips and resize."""
    if resize == "crop":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top : top + side, left : left + side]
    height, width = image.shape[:2]
    inner_height = inner_width = size
    if resize == "letterbox":
        inner_height, inner_width = (round(n * size / max(height, width)) for n in (height, width))
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    y, x = np.mgrid[:size, :size].astype(float)
    middle = (size - 1) / 2
    warp = movement.warp
    offset = (x - middle - warp.shift_x * size) + 1j * (y - middle - warp.shift_y * size)
    offset /= warp.scale * np.exp(-1j * math.radians(warp.degrees))
    x = middle + offset.real * (-1 if movement.flip_x else 1)
    y = middle + offset.imag * (-1 if movement.flip_y else 1)
    x, y = x.clip(0, size - 1), y.clip(0, size - 1)  # outside repeats the border of the square
    bottom, right = top + inner_height - 1, left + inner_width - 1
    at = (y - top + 0.5) * height / inner_height - 0.5, (x - left + 0.5) * width / inner_width - 0.5
    channels = image.astype(float).transpose(2, 0, 1)
    moved = [map_coordinates(channel, at, order=1, mode="nearest") for channel in channels]
    moved = np.stack(moved, axis=-1)
    # A pixel to either side of a bar's edge is a mixture.
    inside = (y >= top) & (y <= bottom) & (x >= left) & (x <= right)
    bar = (y < top - 1) | (y > bottom + 1) | (x < left - 1) | (x > right + 1)
    moved[bar] = FILL
    return moved, inside | bar


@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("height, width", [
    (60, 80), (90, 50), (30, 31), (48, 48), (400, 300), (7, 9),
])
def test_resizing_and_moving_at_once(height, width, resize):
    generator = np.random.default_rng(height)
    for flips in range(4):
        shift_x, shift_y, turn, zoom = generator.uniform(-1, 1, 4)
        warp = Warp(0.3 * shift_x, 0.3 * shift_y, 60 * turn, 1 + 0.4 * zoom)
        movement = Movement(bool(flips & 1), bool(flips & 2), warp)
        image, out = smooth(height, width), np.empty((48, 48, 3), np.uint8)
        before = image.copy()
        assert move_to_square(image, Preprocessing(48, resize, FILL), movement, out) is out
        expected, is_known = moved_by_scipy(image, 48, resize, movement)
        difference = np.abs(out - expected)[is_known]
        assert difference.max() <= 6 and difference.mean() < 1
        assert np.array_equal(image, before)


def test_far_outside_is_the_border_or_the_bar():
    image = np.full((20, 40, 3), 100, np.uint8)
    out = np.empty((40, 40, 3), np.uint8)
    movement = Movement(warp=Warp(scale=0.1, shift_x=0.5))
    move_to_square(image, Preprocessing(40, "letterbox", FILL), movement, out)
    # Bars above and below; the picture, two pixels high now, goes on to either side.
    assert (out[:18] == FILL).all() and (out[22:] == FILL).all()
    assert (np.abs(out[19:21].astype(int) - 100) < 60).all()
    assert (out[19:21] == out[19:21, :1]).all()


def test_a_bar_on_one_side_only():
    """Of 41 pixels 40 are the picture: the bar is one column at the right, none at the left."""
    image = np.full((41, 40, 3), 100, np.uint8)
    out = np.empty((41, 41, 3), np.uint8)
    for shift, expected in ((0.25, [100]), (-0.25, FILL)):
        movement = Movement(warp=Warp(shift_x=shift))
        move_to_square(image, Preprocessing(41, "letterbox", FILL), movement, out)
        assert (out[:, :9] == 100).all() if shift > 0 else (out[:, -9:] == expected).all()


def test_no_pixel_is_skipped_where_the_picture_shrinks_much():
    """Columns of black and white become grey: bilinear sampling would show some of either."""
    image = np.zeros((300, 300, 3), np.uint8)
    image[:, ::2] = 200
    out = np.empty((50, 50, 3), np.uint8)
    move_to_square(image, Preprocessing(50), Movement(warp=Warp(degrees=3.0)), out)
    assert np.abs(out.astype(int) - 100).max() <= 2


def test_a_photo_reduced_by_its_decoder_keeps_its_place():
    """The sizes of the file count, also where the decoder has rounded: 402 to 202, 303 to 152."""
    file = io.BytesIO()
    Image.fromarray(smooth(402, 303)).save(file, "JPEG", quality=95)
    options = Augmentation(True, True, 0.2, 30.0, 0.2, 0.0)
    for seed in range(8):
        out = np.empty((200, 200, 3), np.uint8)
        preprocessing = Preprocessing(200, "letterbox", FILL)
        stream = np.random.default_rng(seed)
        load_augmented(file.getvalue(), preprocessing, options, stream, out)
        draws = np.random.default_rng(seed).random(7)
        if draws[6] >= 0.75:
            continue
        moves = draws * 2 - 1
        warp = Warp(0.2 * moves[2], 0.2 * moves[3], 30 * moves[4], 1 + 0.2 * moves[5])
        movement = Movement(draws[0] < 0.5, draws[1] < 0.5, warp)
        expected, is_known = moved_by_scipy(smooth(402, 303), 200, "letterbox", movement)
        difference = np.abs(out - expected)[is_known]
        assert difference.mean() < 1.5 and np.percentile(difference, 99) < 8


def test_loading_erases_as_well():
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (99, 99, 99)).save(file, "PNG")
    loaded, in_memory = np.empty((40, 40, 3), np.uint8), np.full((40, 40, 3), 99, np.uint8)
    load_augmented(
        file.getvalue(), Preprocessing(40), EVERYTHING, np.random.default_rng(1), loaded
    )
    augment(in_memory, EVERYTHING, np.random.default_rng(1))
    assert np.array_equal(loaded, in_memory) and (loaded != 99).any()


# One option never changes what another does


@pytest.mark.parametrize("option", Augmentation._fields[:5])
def test_each_option_draws_as_much_as_none(option):
    """The generator goes on from the same state, whatever is switched on."""
    for seed in range(10):
        states = []
        for options in (Augmentation(), Augmentation(**{option: 0.3})):
            generator = np.random.default_rng(seed)
            augment(noise(), options, generator)
            states.append(generator.bit_generator.state)
        assert states[0] == states[1]


def test_erasing_is_the_same_whatever_else_is_on():
    """Warping changes nothing in an image of one colour, so what differs is the erasing."""
    for seed in range(20):
        images = []
        for options in (Augmentation(random_eraser=0.7), EVERYTHING._replace(random_eraser=0.7)):
            images.append(np.full((24, 24, 3), 99, np.uint8))
            augment(images[-1], options, np.random.default_rng(seed))
        assert np.array_equal(*images)


def test_horizontal_flips_are_the_same_with_vertical_ones_and_erasing():
    original = noise()
    for seed in range(40):
        alone, both = original.copy(), original.copy()
        augment(alone, Augmentation(horizontal_flip=True), np.random.default_rng(seed))
        augment(both, Augmentation(True, True, random_eraser=1.0), np.random.default_rng(seed))
        flip = not np.array_equal(alone, original)
        kept = [
            (both == candidate).mean()  # at least 0.6 of the image is not erased
            for candidate in (original, original[:, ::-1], original[::-1], original[::-1, ::-1])
        ]
        assert max(kept) > 0.55
        assert np.argmax(kept) % 2 == flip


def test_rotation_is_the_same_with_zoom():
    """Zooming about the centre moves the spot along its ray: the angle stays."""
    for seed in range(30):
        angles = []
        for options in (Augmentation(rotation=40.0), Augmentation(rotation=40.0, zoom=0.3)):
            image = spot(50, 32)
            augment(image, options, np.random.default_rng(seed))
            x, y = place(image)
            angles.append(math.degrees(math.atan2(y - 32, x - 32)))
        assert abs(angles[0] - angles[1]) < 1


# Random erasing


def box(image, background):
    """(top, left, rows, columns) of what was erased, None if nothing was."""
    changed = (image != background).any(axis=-1)
    if not changed.any():
        return None
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1


def erased_boxes(count, shape=(64, 64), seed=0, **options):
    generator = np.random.default_rng(seed)
    boxes = []
    for _ in range(count):
        image = np.full((*shape, 3), 128, np.uint8)
        random_eraser(image, generator, **options)
        boxes.append(box(image, 128))
    return boxes


def test_probability_0_and_1():
    assert erased_boxes(200, probability=0.0) == [None] * 200
    assert None not in erased_boxes(200, probability=1.0)


def test_probability_between():
    share = np.mean([each is not None for each in erased_boxes(1000, probability=0.3)])
    assert abs(share - 0.3) < 4 * math.sqrt(0.21 / 1000)


def test_area_and_aspect_ratio_are_within_bounds():
    area, ratio = (0.05, 0.2), (0.5, 2.0)
    boxes = erased_boxes(1500, (100, 80), probability=1.0, area=area, aspect_ratio=ratio)
    _, _, rows, columns = np.array(boxes).T
    # Each side is rounded to whole pixels, at most half a pixel either way.
    low, high = (rows - 0.5) * (columns - 0.5) / 8000, (rows + 0.5) * (columns + 0.5) / 8000
    assert (high >= area[0]).all() and (low <= area[1]).all()
    assert ((rows + 0.5) / (columns - 0.5) >= ratio[0]).all()
    assert ((rows - 0.5) / (columns + 0.5) <= ratio[1]).all()
    # The bounds are reached, too.
    share, aspect = rows * columns / 8000, rows / columns
    assert share.min() < 0.06 and share.max() > 0.19
    assert aspect.min() < 0.6 and aspect.max() > 1.8


def test_what_is_erased_is_a_full_rectangle_and_the_rest_stays():
    generator = np.random.default_rng(3)
    for _ in range(50):
        image = np.full((40, 40, 3), 128, np.uint8)
        random_eraser(image, generator, 1.0)
        top, left, rows, columns = box(image, 128)
        inside = image[top : top + rows, left : left + columns]
        assert ((inside != 128).any(axis=-1)).mean() > 0.99
        image[top : top + rows, left : left + columns] = 128
        assert (image == 128).all()


def test_noise_in_each_pixel_and_channel():
    generator = np.random.default_rng(0)
    values = []
    for _ in range(40):
        image = np.full((50, 50, 3), 128, np.uint8)
        random_eraser(image, generator, 1.0)
        values.append(image[(image != 128).any(axis=-1)])
    values = np.concatenate(values)
    assert values.min() == 0 and values.max() == 255
    assert abs(values.mean() - 127.5) < 1.5
    assert np.abs(np.corrcoef(values.T.astype(float)) - np.eye(3)).max() < 0.05


def test_one_colour():
    generator = np.random.default_rng(0)
    colors = []
    for _ in range(200):
        image = np.full((30, 30, 3), 128, np.uint8)
        random_eraser(image, generator, 1.0, per_pixel=False)
        top, left, rows, columns = box(image, 128)
        inside = image[top : top + rows, left : left + columns]
        assert (inside == inside[0, 0]).all()
        colors.append(inside[0, 0])
    colors = np.array(colors)
    assert len(np.unique(colors, axis=0)) > 190
    assert colors.min() < 5 and colors.max() > 250
    assert (colors != colors[:, :1]).any()  # a colour, not a grey


def test_erases_in_place_and_repeatably():
    one, two = noise(), noise()
    assert random_eraser(one, np.random.default_rng(1), 1.0) is one
    random_eraser(two, np.random.default_rng(1), 1.0)
    assert np.array_equal(one, two) and not np.array_equal(one, noise())


def test_every_place_of_the_image_can_be_erased():
    touched = np.zeros((20, 30), bool)
    for top, left, rows, columns in erased_boxes(600, (20, 30), probability=1.0):
        touched[top : top + rows, left : left + columns] = True
    assert touched.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 2)])
def test_slivers_end(shape):
    generator = np.random.default_rng(0)
    image = np.full((*shape, 3), 128, np.uint8)
    for _ in range(10):
        assert random_eraser(image, generator, 1.0).shape == (*shape, 3)


def drawn_by_the_rules(generator, height, width, area, aspect_ratio):
    """A rectangle by the rules in random_eraser's docstring, not rounded.

    Area and aspect ratio (height over width) are drawn uniformly, again and again until
    a rectangle fits; it lies at a uniformly drawn place within the image. (The paper's
    algorithm 1 draws the place along with the size and drops both where it sticks out, so
    that large rectangles are rarer: a mean of 0.14 of the area instead of 0.20.)
    """
    while True:
        erased = (area[0] + (area[1] - area[0]) * generator.random()) * height * width
        ratio = aspect_ratio[0] + (aspect_ratio[1] - aspect_ratio[0]) * generator.random()
        rows, columns = (erased * ratio) ** 0.5, (erased / ratio) ** 0.5
        if rows <= height and columns <= width:
            break
    top = generator.random() * (height - rows)
    left = generator.random() * (width - columns)
    return top, left, rows, columns


def test_rectangles_are_distributed_by_the_rules():
    height, width, count = 200, 160, 2500
    found = np.array(erased_boxes(count, (height, width), probability=1.0, per_pixel=False), float)
    generator = np.random.default_rng(99)
    rules = ((0.02, 0.4), (0.3, 1 / 0.3))
    expected = np.array(
        [drawn_by_the_rules(generator, height, width, *rules) for _ in range(count)]
    )

    def measures(boxes):
        top, left, rows, columns = boxes.T
        return {
            "area": rows * columns, "aspect ratio": rows / columns,
            "rows": rows, "columns": columns,
            "middle, down": top + rows / 2, "middle, right": left + columns / 2,
        }

    found, expected = measures(found), measures(expected)
    for name in found:
        assert ks_2samp(found[name], expected[name]).pvalue > 0.01, name
