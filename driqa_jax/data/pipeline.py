"""Batches of numpy arrays from a source, addressed by position; and photographs for examinations.

Everything about example `p` of the stream (image, flip, tiles) follows from (seed, p). So step n does not depend on
where the stream starts or on the number of hosts: each host takes its contiguous share of every global batch.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from PIL import Image

from driqa_jax.data.decode import decode
from driqa_jax.data.perturbed_pairs import PREFIX, Twins, encoding, resizing
from driqa_jax.data.source import Joined, Source
from driqa_jax.data.views import ViewRule, make_view
from driqa_jax.errors import UnreadableImage

Batch = dict[str, np.ndarray]
FOREVER = 2**31 - 1  # positions are int32
PREFETCHED_BATCHES = 3
_SHUFFLE, _AUGMENT, _TWIN, _PART = 1, 2, 3, 4
LEAST, MOST = 224, 512  # px, of `photographs`: one tile of the degradation encoder; the usual size in data sets
STEP = 32  # the restorer needs sides that are multiples of it


class Place(NamedTuple):
    """Where a stream starts, which host reads it, and with how many threads (0: without any)."""

    start_step: int = 0
    process_index: int = 0
    process_count: int = 1
    threads: int = 2


ALONE = Place()


def finetune_batches(
    source: Source,
    rule: ViewRule,
    canvas: tuple[int, int],
    batch_size: int,
    seed: int,
    shrink: float = 1.0,
    quality: int = 100,
    twins: Twins | None = None,
    place: Place = ALONE,
) -> Iterator[Batch]:
    """Endless views with scores, shuffled in each epoch, with random horizontal flips and tile positions.

    `shrink` < 1 first resizes half of the images to a random share of their sides, at least `shrink`. `quality` < 100
    then encodes half of them again, as a JPEG of at least that quality.

    `batch_size` is global. Yields this host's share B: `whole` uint8 (B, *canvas, 3), `valid` int32 (B, 2), `tiles`
    uint8 (B, K, t, t, 3), `tile_boxes` float32 (B, K, 4), `mos` and `percentile` float32 (B,), `dataset` and `index`
    (the position in the stream) int32 (B,). `twins` adds the view of the twin of every `twins.every`-th image, with
    tiles at the same positions, as `twin_whole` and so on.

    Raises ValueError if the hosts do not divide the batch, UnreadableImage for a broken image.
    """
    order, codes = order_of(source, seed), dataset_codes(source)

    def load(position: int) -> Batch:
        row = order(position)
        rng = np.random.default_rng([seed, _AUGMENT, position])
        mirrored = rng.random() < 0.5

        def view(image: Image.Image) -> Batch:
            if mirrored:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if shrink < 1.0:
                chosen, resize = rng.random() < 0.5, resizing(shrink, rng)
                image = resize(image) if chosen else image
            if quality < 100:
                chosen, encode = rng.random() < 0.5, encoding(quality, rng)
                image = encode(image) if chosen else image
            if twins is None or position % twins.every:
                return make_view(image, rule, canvas, rng)
            same_tiles, original = copy.deepcopy(rng), make_view(image, rule, canvas, rng)
            twin = twins.twin(image, np.random.default_rng([seed, _TWIN, position]))
            return original | {PREFIX + name: x for name, x in make_view(twin, rule, canvas, same_tiles).items()}

        return {**labeled(source, codes, row, position), **_decoded(source, row, view)}

    return _stream(load, FOREVER, batch_size, place)


def evaluation_batches(
    source: Source, rule: ViewRule, canvas: tuple[int, int], batch_size: int, place: Place = ALONE
) -> Iterator[Batch]:
    """One deterministic pass over the source in its order; keys as in `finetune_batches`, and `real`.

    `index` is the row of the source. The last image is repeated to fill the last batch; `real` float32 (B,) is 0 for
    these repeats, else 1.
    """
    codes, count = dataset_codes(source), len(source)
    padded = -(-count // batch_size) * batch_size

    def load(position: int) -> Batch:
        row = min(position, count - 1)
        view = _decoded(source, row, lambda image: make_view(image, rule, canvas))
        return {**labeled(source, codes, row, row), **view, "real": np.float32(position < count)}

    return _stream(load, padded, batch_size, place)


def pretrain_batches(
    source: Source, crop: int, batch_size: int, seed: int, halve: bool | tuple[str, ...] = False, place: Place = ALONE
) -> Iterator[Batch]:
    """Endless random crops of photographs: `photo` uint8 (B, crop, crop, 3) and `index` int32 (B,).

    Crops are randomly positioned, rotated by quarter turns and mirrored. `halve` averages 2x2 pixels before the crop
    (True: all images; else those of the named data sets), which removes JPEG artifacts.

    Raises UnreadableImage for a broken image or one smaller than the crop.
    """
    order, datasets = order_of(source, seed), source.column("dataset")

    def load(position: int) -> Batch:
        row = order(position)
        rng = np.random.default_rng([seed, _AUGMENT, position])
        halved = halve if isinstance(halve, bool) else str(datasets[row]) in halve
        image = _random_crop(_decoded(source, row), crop, 2 if halved else 1, rng, source.label(row))
        image = np.rot90(image, int(rng.integers(4)))
        image = image[:, ::-1] if rng.random() < 0.5 else image
        return {"photo": np.ascontiguousarray(image), "index": np.int32(position)}

    return _stream(load, FOREVER, batch_size, place)


def order_of(source: Source, seed: int) -> Callable[[int], int]:
    """Maps a position of the endless stream to a row of the source, with a new permutation in each epoch.

    In an epoch of a `Joined` source with weights, each part has its share of the positions, at least one. After each
    epoch the images of a part have been drawn equally often, up to one time.
    """
    if not isinstance(source, Joined) or not source.weights:
        return _order(len(source), seed, _SHUFFLE)
    shares = np.rint(len(source) * np.divide(source.weights, sum(source.weights))).astype(int).clip(1)
    parts, starts = np.repeat(np.arange(len(shares)), shares), np.cumsum([0, *source.lengths])
    slot_of = _order(len(parts), seed, _SHUFFLE)
    row_of = [_order(length, seed, _PART, part) for part, length in enumerate(source.lengths)]

    def row(position: int) -> int:
        part = parts[slot := slot_of(position)]
        drawn = position // len(parts) * shares[part] + slot - shares[:part].sum()  # times that the part was drawn
        return int(starts[part]) + row_of[part](int(drawn))

    return row


def _order(count: int, *key: int) -> Callable[[int], int]:
    """Maps a position to one of `count` items, in permutations that `key` and the epoch determine."""
    permuted = functools.lru_cache(maxsize=4)(lambda epoch: np.random.default_rng([*key, epoch]).permutation(count))
    return lambda position: int(permuted(position // count)[position % count])


def photographs(
    source: Source, count: int, seed: int = 0, halve: bool = False, side: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Center squares of `count` images, drawn with `seed` in the same order as in pretraining.

    halve: average 2x2 pixels first, which removes JPEG artifacts. side: px; None: the largest that every image of at
    least 224 allows, at most 512. Returns images, (S, S, 3) uint8, and the reasons for the omitted ones, by image id.
    """
    order = order_of(source, seed)
    images, failed = {}, {}
    for row in map(order, range(min(count, len(source)))):
        name = str(source.column("image_id")[row])
        try:
            image = decode(source.read(row), name=name)
        except (UnreadableImage, OSError) as error:
            failed[name] = " ".join(str(error).split())
            continue
        if halve:
            image = np.asarray(Image.fromarray(image).reduce(2))
        least = side or LEAST
        if min(image.shape[:2]) < least:
            failed[name] = f"{image.shape[1]}x{image.shape[0]} is smaller than {least} pixels"
            continue
        images[name] = image
    if images and side is None:
        side = min(MOST, min(min(image.shape[:2]) for image in images.values())) // STEP * STEP
    return {name: center_square(image, side) for name, image in images.items()}, failed


def center_square(image: np.ndarray, side: int) -> np.ndarray:
    """The center of (H, W, 3) without scaling: (S, S, 3), S = min(side, H, W)."""
    side = min(side, *image.shape[:2])
    y, x = ((length - side) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[y : y + side, x : x + side])


def _stream(load: Callable[[int], Batch], end: int, batch_size: int, place: Place) -> Iterator[Batch]:
    start_step, process_index, process_count, threads = place
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(f"a global batch of {batch_size} does not divide evenly among {process_count} hosts")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not below process_count {process_count}")
    share = batch_size // process_count

    def local(k: int) -> Batch:
        # Randomness depends only on the global position, so hosts only choose which positions to load.
        step, offset = divmod(k, share)
        return load(step * batch_size + process_index * share + offset)

    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCHED_BATCHES * share if threads else 0)
    first, last = start_step * share, end // batch_size * share
    examples = grain.MapDataset.range(first, max(first, last)).map(local).to_iter_dataset(read)
    return iter(examples.batch(share, batch_fn=_stacked))


def _stacked(examples: list[Batch]) -> Batch:
    # Only some examples have twin views.
    names = dict.fromkeys(name for example in examples for name in example)
    return {name: np.stack([example[name] for example in examples if name in example]) for name in names}


def dataset_codes(source: Source) -> np.ndarray:
    """The number of each image's data set, (N,) int32, in order of first occurrence."""
    _, first, codes = np.unique(source.column("dataset"), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes].astype(np.int32)


def labeled(source: Source, codes: np.ndarray, row: int, position: int) -> Batch:
    """The labels of one image in a batch; `codes` from `dataset_codes`, `position` in the stream."""
    return {
        "mos": np.float32(source.column("mos")[row]),
        "percentile": np.float32(source.column("percentile")[row]),
        "dataset": codes[row],
        "index": np.int32(position),
    }


def _decoded(source: Source, row: int, use: Callable[[Image.Image], Any] | None = None) -> Any:
    # `use` gets Pillow's image, because converting it to an array and back would cost two copies.
    return decode(source.read(row), name=source.label(row), use=use)


def _random_crop(image: np.ndarray, crop: int, factor: int, rng: np.random.Generator, name: str) -> np.ndarray:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if min(height, width) < crop:
        halved = " once halved" if factor == 2 else ""
        size = f"{width}x{height}{halved}"
        raise UnreadableImage(name, f"{size} is smaller than the crop of {crop}; remove it from the set")
    y, x = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    side = crop * factor
    cut = image[y * factor : y * factor + side, x * factor : x * factor + side]
    return cut if factor == 1 else np.asarray(Image.fromarray(cut).reduce(factor))
