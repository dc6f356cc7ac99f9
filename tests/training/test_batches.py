from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from secateur.training.batches import augmented, normalized
from tests.training.networks import Unchanged, some_images


def candidates(image_HWC: Tensor, max_shift: int, flip: bool) -> list[Tensor]:
    """Return all that augmentation may make of an image, one by one."""
    size = len(image_HWC)
    padded = torch.zeros(size + 2 * max_shift, size + 2 * max_shift, 3, dtype=torch.uint8)
    padded[max_shift : max_shift + size, max_shift : max_shift + size] = image_HWC
    steps = range(2 * max_shift + 1)
    shifted = [padded[y : y + size, x : x + size] for y in steps for x in steps]
    return shifted + ([image.flip(1) for image in shifted] if flip else [])


@given(seed=st.integers(0, 2**32), max_shift=st.integers(0, 3), flip=st.booleans(), size=st.integers(2, 6))
def test_an_augmented_image_is_a_shifted_maybe_mirrored_one(seed: int, max_shift: int, flip: bool, size: int) -> None:
    images = some_images(5, size=size, seed=seed).images_NHWC
    result = augmented(images, max_shift=max_shift, flip=flip, generator=Generator().manual_seed(seed))
    assert result.shape == images.shape
    for before, after in zip(images, result, strict=True):
        assert any(torch.equal(after, candidate) for candidate in candidates(before, max_shift, flip))


def test_all_shifts_and_both_sides_occur() -> None:
    image = some_images(1, size=6).images_NHWC
    result = augmented(image.expand(500, -1, -1, -1), max_shift=1, flip=True, generator=Generator().manual_seed(0))
    assert len(result.unique(dim=0)) == 18


def test_cutout_blackens_a_square_that_the_border_may_cut() -> None:
    white = torch.full((400, 8, 8, 3), 255, dtype=torch.uint8)
    result = augmented(white, max_shift=0, flip=False, cutout=3, generator=Generator().manual_seed(0))
    assert set(result.unique().tolist()) == {0, 255}
    sizes = set()
    for image in result[..., 0] == 0:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert image.sum() == len(rows) * len(columns), "a rectangle"
        sizes.add((len(rows), len(columns)))
    assert sizes == {(3, 3), (2, 3), (3, 2), (2, 2)}
    assert torch.equal(result[..., 0], result[..., 2])


def test_without_shift_and_flip_nothing_changes_and_nothing_is_drawn() -> None:
    generator = Generator().manual_seed(0)
    state = generator.get_state()
    images = some_images(3).images_NHWC
    assert augmented(images, max_shift=0, flip=False, generator=generator) is images
    assert torch.equal(generator.get_state(), state)


def test_normalized_images_have_channels_last_in_memory() -> None:
    images = some_images(2).images_NHWC
    inputs = normalized(images, Unchanged(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)))
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]):
        torch.testing.assert_close(inputs[:, channel], (images[..., channel] / 255 - mean) / std)
