"""From a source to batches of numpy arrays, by position alone.

Everything about example `p` of the stream (which picture, which flip, which tiles) follows from (seed, p). So
step n is the same whether the stream starts at 0 or at n, and whatever the number of hosts: a host takes its
contiguous share of every global batch.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.perturbed_pairs import PREFIX, Twins, encoding, resizing
from driqa_jax.data.source import Source
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UnreadableImage

Batch = dict[str, np.ndarray]
FOREVER = 2**31 - 1  # positions are int32
PREFETCHED_BATCHES = 3
_SHUFFLE, _AUGMENT, _TWIN = 1, 2, 3


def finetune_batches(
    source: Source,
    rule: ViewRule,
    canvas: tuple[int, int],
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    train: bool = True,
    shrink: float = 1.0,
    quality: int = 100,
    twins: Twins | None = None,
) -> Iterator[Batch]:
    """Views with scores, for ever: shuffled anew in each epoch, random horizontal flips and tile places.

    Below 1, `shrink` makes half of the photos smaller first, to between this and all of their sides, by one of Pillow's
    kernels: a picture resized a little is the same picture to a person. Below 100, `quality` then has half of them
    encoded again, as a JPEG of at least that quality.

    `batch_size` is global; this host's share B of it comes out: `whole` uint8 (B, *canvas, 3), `valid` int32
    (B, 2), `tiles` uint8 (B, K, t, t, 3), `tile_boxes` float32 (B, K, 4), `mos` and `percentile` float32
    (B,), `dataset` and `index` int32 (B,), `index` being the position in the stream. With `twins`, the views of every
    so many-th picture's twin besides, at the same places: `twin_whole` and so on. `train=False` gives
    `evaluation_batches` instead.

    Raises ValueError where the hosts do not divide the batch; UnreadableImage, naming it, at a broken
    picture.
    """
    if not train:
        return evaluation_batches(source, rule, canvas, batch_size, start_step, process_index, process_count, threads)
    order, codes = Order(len(source), seed), dataset_codes(source)

    def load(position: int) -> Batch:
        row = order(position)
        rng = np.random.default_rng([seed, _AUGMENT, position])
        mirrored = rng.random() < 0.5

        def view(image: Image.Image) -> Batch:
            if mirrored:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if shrink < 1.0:
                smaller, resized = rng.random() < 0.5, resizing(shrink, rng)
                image = resized(image) if smaller else image
            if quality < 100:
                again, encoded = rng.random() < 0.5, encoding(quality, rng)
                image = encoded(image) if again else image
            if twins is None or position % twins.every:
                return make_view(image, rule, canvas, rng)
            places, seen = copy.deepcopy(rng), make_view(image, rule, canvas, rng)
            twin = twins.twin(image, np.random.default_rng([seed, _TWIN, position]))
            return seen | {PREFIX + name: x for name, x in make_view(twin, rule, canvas, places).items()}

        return {**labelled(source, codes, row, position), **_decoded(source, row, view)}

    return _stream(load, FOREVER, batch_size, start_step, process_index, process_count, threads)


def evaluation_batches(
    source: Source,
    rule: ViewRule,
    canvas: tuple[int, int],
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
) -> Iterator[Batch]:
    """Views with scores, once, in the source's order, nothing random; keys as `finetune_batches`, and `real`.

    `index` is the row of the source. The last batch is filled to its full size by repeating the last picture,
    and `real` float32 (B,) is 1 for a picture, 0 for such a repeat.
    """
    codes, count = dataset_codes(source), len(source)
    padded = -(-count // batch_size) * batch_size

    def load(position: int) -> Batch:
        row = min(position, count - 1)
        view = _decoded(source, row, lambda image: make_view(image, rule, canvas))
        return {**labelled(source, codes, row, row), **view, "real": np.float32(position < count)}

    return _stream(load, padded, batch_size, start_step, process_index, process_count, threads)


def pretrain_batches(
    source: Source,
    crop: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    halve: bool | tuple[str, ...] = False,
) -> Iterator[Batch]:
    """Random crops of photographs, for ever: `photo` uint8 (B, crop, crop, 3) and `index` int32 (B,).

    Crops lie anywhere, turned by quarter turns and mirrored. `halve` averages 2x2 pixels into one before the
    crop (True: all pictures; else those of the data sets named), which removes the traces of JPEG from a
    photograph.

    Raises UnreadableImage, naming it, at a broken picture or one smaller than the crop.
    """
    order, datasets = Order(len(source), seed), source.column("dataset")

    def load(position: int) -> Batch:
        row = order(position)
        rng = np.random.default_rng([seed, _AUGMENT, position])
        halved = halve if isinstance(halve, bool) else str(datasets[row]) in halve
        photo = _random_crop(_decoded(source, row), crop, 2 if halved else 1, rng, source.label(row))
        photo = np.rot90(photo, int(rng.integers(4)))
        photo = _mirrored(photo) if rng.random() < 0.5 else photo
        return {"photo": np.ascontiguousarray(photo), "index": np.int32(position)}

    return _stream(load, FOREVER, batch_size, start_step, process_index, process_count, threads)


class Order:
    """Row of the source at a position of the endless stream: a fresh permutation in each epoch."""

    def __init__(self, count: int, seed: int):
        self._count = count
        self._permutation = functools.lru_cache(maxsize=4)(
            lambda epoch: np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(count)
        )

    def __call__(self, position: int) -> int:
        epoch, place = divmod(position, self._count)
        return int(self._permutation(epoch)[place])


def _stream(
    load: Callable[[int], Batch],
    end: int,
    batch_size: int,
    start_step: int,
    process_index: int,
    process_count: int,
    threads: int,
) -> Iterator[Batch]:
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(f"a global batch of {batch_size} cannot be shared by {process_count} hosts evenly")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not below process_count {process_count}")
    share = batch_size // process_count

    def local(k: int) -> Batch:
        # All that is random hangs on the global position, so hosts only choose which positions to load.
        step, place = divmod(k, share)
        return load(step * batch_size + process_index * share + place)

    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCHED_BATCHES * share if threads else 0)
    first, last = start_step * share, end // batch_size * share
    return iter(
        grain.MapDataset.range(first, max(first, last)).map(local).to_iter_dataset(read).batch(share, batch_fn=_stacked)
    )


def _stacked(examples: list[Batch]) -> Batch:
    # Some examples have a twin.
    names = dict.fromkeys(name for example in examples for name in example)
    return {name: np.stack([example[name] for example in examples if name in example]) for name in names}


def dataset_codes(source: Source) -> np.ndarray:
    """A number for each picture's data set, (N,) int32, in the order in which they occur."""
    _, first, codes = np.unique(source.column("dataset"), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes].astype(np.int32)


def labelled(source: Source, codes: np.ndarray, row: int, position: int) -> Batch:
    """The labels of one picture in a batch: `codes` of `dataset_codes`, its row, its position in the stream."""
    return {
        "mos": np.float32(source.column("mos")[row]),
        "percentile": np.float32(source.column("percentile")[row]),
        "dataset": codes[row],
        "index": np.int32(position),
    }


def _decoded(source: Source, row: int, use: Callable[[Image.Image], Any] | None = None) -> Any:
    # A view is made of Pillow's own image: turning it into an array and back would be two copies more.
    return decode(source.read(row), name=source.label(row), use=use)


def _random_crop(image: np.ndarray, crop: int, factor: int, rng: np.random.Generator, name: str) -> np.ndarray:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if min(height, width) < crop:
        halved = " once halved" if factor == 2 else ""
        raise UnreadableImage(
            name, f"{width}x{height}{halved} is smaller than the crop of {crop}; take it out of the set"
        )
    y, x = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    side = crop * factor
    cut = image[y * factor : y * factor + side, x * factor : x * factor + side]
    return cut if factor == 1 else np.asarray(Image.fromarray(cut).reduce(factor))


def _mirrored(image: np.ndarray) -> np.ndarray:
    # Twice as fast as copying image[:, ::-1], and the resizing that follows wants a contiguous copy.
    return np.take(image, np.arange(image.shape[1] - 1, -1, -1), axis=1)
