"""The teacher: what it draws, what its second backbone sees, and its ridge on several kernels."""

import numpy as np
import pytest
from PIL import Image

from experiments.deduction import teacher
from experiments.deduction.examples import Photo
from experiments.deduction.features import Named


@pytest.fixture
def images():
    rng = np.random.default_rng(0)

    def photo(name, width, height):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        return Photo(name, lambda: Image.fromarray(pixels), None)

    return teacher.Images([photo("a", 300, 200)], [photo("b", 512, 384)], [photo("c", 900, 700)])


def test_the_pool_begins_with_the_unlabeled_photographs_as_they_are(images):
    np.testing.assert_array_equal(teacher.draw(0, images), np.asarray(images.unlabeled[0].open()))


def test_equal_numbers_give_equal_images_of_ordinary_sizes(images):
    sides, seen = [], set()
    for number in range(1, 25):
        made = teacher.draw(number, images)
        np.testing.assert_array_equal(made, teacher.draw(number, images))
        assert made.dtype == np.uint8 and made.shape[2] == 3
        sides.append(min(made.shape[:2]))
        seen.add(made.tobytes())
    assert len(seen) == len(sides)
    assert min(sides) >= 240 and max(sides) <= 700
    assert any(teacher.SHORT[0] <= side <= teacher.SHORT[1] for side in sides)
    assert not np.array_equal(teacher.draw(1, images), teacher.draw(1, images, seed=1))


def test_the_second_backbone_sees_the_middle_at_its_own_size():
    image = np.arange(300 * 400 * 3, dtype=np.uint32).reshape(300, 400, 3).astype(np.uint8)
    np.testing.assert_array_equal(teacher.middle(image), image[38:262, 88:312])
    assert teacher.middle(image[:100]).shape == (teacher.SIDE, teacher.SIDE, 3)


def test_the_second_backbone_pools_tokens_of_a_normalized_square():
    class Session:
        def run(self, _, feed):
            self.given = feed[teacher.INPUT]
            return [np.random.default_rng(layer).normal(size=(1, 5, 384)) for layer in range(3)]

    backbone = teacher.SecondBackbone.__new__(teacher.SecondBackbone)
    backbone._session = Session()
    image = np.full((224, 224, 3), 255, np.uint8)
    found = backbone(image)
    assert found.shape == (3456,) and found.dtype == np.float16
    tokens = np.random.default_rng(1).normal(size=(1, 5, 384))[0]
    expected = np.concatenate([tokens[0], tokens[1:].mean(axis=0), tokens[1:].std(axis=0)])
    np.testing.assert_allclose(found[1152:2304], expected, atol=2e-3)
    assert backbone._session.given.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(backbone._session.given[0, 0], (1 - 0.485) / 0.229, rtol=1e-5)


def test_what_was_seen_is_not_seen_again(tmp_path):
    class Counting:
        key, calls = {"model": "x"}, 0

        def __call__(self, image):
            self.calls += 1
            return np.float16(image)

    backbone, values = Counting(), {"0": [1.0, 2.0], "1": [3.0, 4.0]}
    for names in (["0"], ["0", "1"], ["1", "0"]):
        found = teacher.see(backbone, tmp_path, Named("pool", names, values.get, str.encode))
        np.testing.assert_array_equal(found, [values[name] for name in names])
    assert backbone.calls == 2


def test_a_kernel_ridge_is_the_solution_of_its_equations():
    rng = np.random.default_rng(2)
    train, test = ([rng.normal(size=(n, 3)), rng.normal(size=(n, 2))] for n in (20, 6))
    targets = rng.normal(size=20)

    def kernel(a, b):
        total = np.zeros((len(a[0]), len(b[0])))
        for x, y, known in zip(a, b, train, strict=True):
            mean, scale = np.float32(known).mean(axis=0), np.float32(known).std(axis=0) + 1e-4
            x, y = (np.clip((np.float32(z) - mean) / scale, -5, 5) for z in (x, y))
            total += np.exp(-0.5 * np.square(x[:, None] - y[None]).sum(axis=2) / x.shape[1])
        return total

    dual = np.linalg.inv(kernel(train, train) + 0.1 * np.eye(20)) @ (targets - targets.mean())
    expected = kernel(test, train) @ dual + targets.mean()
    np.testing.assert_allclose(teacher.kernel_ridge(train, targets, test), expected, atol=1e-5)
