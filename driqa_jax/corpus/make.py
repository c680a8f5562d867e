"""A corpus: the examples of a configuration's pretraining, as files.

Photographs, crops, chains and noise are those of the configuration's pretraining, step by step. So a corpus is a
function of configuration, photographs and versions, and each shard can be made independently of the others. Its files
are ArrayRecord shards for tensorflow_datasets, written without TensorFlow:

    import tensorflow_datasets as tfds
    records = tfds.builder_from_directory("corpus").as_data_source("train")
    records[0]["image"], records[0]["clean"]  # uint8 (crop, crop, 3)

A record has `image` and `clean`, lossless WebP; `types` and `severities` of the steps in order of application (none for
a clean image); `photo_id`, the photograph's name in its source; `index`, the position of the crop in the stream of
photographs; `chain_id`, shared by the photographs under one chain; `key`, unique in the corpus.

Every record has `clean`, although all chains of a photograph share it: restoration and full-reference models read pairs
in shuffled order, and a second lookup would double their reads. It is encoded once and takes about as much disk as
`image`.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from PIL import features as pillow_features
from tensorflow_datasets.core import example_serializer, file_adapters, naming, writer

from driqa_jax import degradations
from driqa_jax.compile_cache import processor
from driqa_jax.data.pipeline import order_of
from driqa_jax.data.source import Source
from driqa_jax.degradations import CLEAN, NAMES
from driqa_jax.errors import UserError
from driqa_jax.io import file_sha256, image_bytes, replacing, write_json
from driqa_jax.progress import ProgressFn, counter, silent
from driqa_jax.provenance import versions
from driqa_jax.train.loop import sources
from driqa_jax.train.stages import pretrain

MANIFEST = "manifest.json"
FORMAT = "driqa_jax corpus 1"
NAME, SPLIT = "corpus", "train"


def encode(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as lossless WebP. The settings are fixed, so a libwebp version always gives the same bytes."""
    return image_bytes(Image.fromarray(image), "WEBP", lossless=True, quality=20, method=1)


def features() -> tfds.features.FeaturesDict:
    """The features of a record."""
    image = tfds.features.Image(shape=(None, None, 3))
    return tfds.features.FeaturesDict(
        {
            "image": image,
            "clean": image,
            "types": tfds.features.Sequence(tfds.features.Text()),
            "severities": tfds.features.Sequence(np.float32),
            "photo_id": tfds.features.Text(),
            "index": np.int64,
            "chain_id": np.int64,
            "key": tfds.features.Text(),
        }
    )


def shard_path(folder: pathlib.Path, index: int, count: int) -> pathlib.Path:
    """The path of shard `index` of `count`."""
    return folder / f"{NAME}-{SPLIT}.array_record-{index:05d}-of-{count:05d}"


class _Serializer(example_serializer.ExampleSerializer):
    def serialize_example(self, example: dict) -> bytes:
        # By default the order of a record's keys differs between processes.
        return self.get_tf_example(example).SerializeToString(deterministic=True)


def write_shard(path: pathlib.Path, records: Iterable[dict]) -> dict:
    """Write one shard atomically; returns its file name, number of records and sha256. Raises UserError if it fails."""
    described = features()
    shard = writer.ShardWriter(
        described,
        _Serializer(described.get_serialized_info()),
        writer.ExampleWriter(file_adapters.FileFormat.ARRAY_RECORD),
    )
    with replacing(path) as part:
        count = shard.write(((record["key"], record) for record in records), part)
        digest = file_sha256(part)
    return {"file": path.name, "records": count, "sha256": digest}


def write_metadata(folder: pathlib.Path, lengths: Sequence[int], description: str) -> None:
    """Write the metadata for `tfds.builder_from_directory`."""
    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, split=SPLIT, filetype_suffix="array_record"
    )
    size = sum(shard_path(folder, i, len(lengths)).stat().st_size for i in range(len(lengths)))
    split = tfds.core.SplitInfo(name=SPLIT, shard_lengths=list(lengths), num_bytes=size, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(),
        split_infos=[split],
        filename_template=template,
        description=description,
        disable_shuffling=True,
        check_data=False,  # the check needs TensorFlow
    )


def make(config: ml_collections.ConfigDict, folder: pathlib.Path, progress: ProgressFn = silent) -> dict:
    """Write the missing shards of a configuration's corpus; returns its manifest.

    Shards are written atomically and then entered in the manifest, so a stopped run continues with the first missing
    shard and gives the same bytes. `progress` counts images.

    Raises:
      UserError: the configuration is invalid, or the folder holds another corpus.
    """
    if config.pretrain.block:
        raise UserError("config.pretrain.block must be 0: a corpus applies every chain of a step to every photograph")
    steps, shard_steps = _steps(config)
    source = sources(config)[0]
    manifest = _claim(folder, _describe(config, source))
    count = -(-steps // shard_steps)
    per_step = config.batch_size * config.pretrain.chains
    degrade = _degrader(config)
    with ThreadPoolExecutor() as threads:
        for shard in range(count):
            first = shard * shard_steps
            last = min(first + shard_steps, steps)
            path = shard_path(folder, shard, count)
            entry = manifest["shards"].get(path.name)
            if entry is None or not path.is_file() or file_sha256(path) != entry["sha256"]:
                records = _records(config, source, degrade, range(first, last), threads)
                count_one = counter(progress, "pictures", steps * per_step, first * per_step)
                written = write_shard(path, (record for record in records if count_one() is None))
                manifest["shards"][written.pop("file")] = written
                write_json(folder / MANIFEST, manifest)
            progress("pictures", last * per_step, steps * per_step)
    lengths = [manifest["shards"][shard_path(folder, i, count).name]["records"] for i in range(count)]
    write_metadata(folder, lengths, f"Degraded photographs of seed {config.seed}; see {MANIFEST}.")
    manifest["complete"] = True
    write_json(folder / MANIFEST, manifest)
    return manifest


def _steps(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """The number of steps in total and per shard. Raises UserError if images do not fill whole steps."""
    if config.stage != "pretrain":
        raise UserError(f"config.stage is {config.stage!r}; a corpus needs 'pretrain'")
    per_step = config.batch_size * config.pretrain.chains
    for key, value in config.corpus.items():
        if value < per_step or value % per_step:
            raise UserError(
                f"config.corpus.{key} is {value}; a step makes batch_size x pretrain.chains = {per_step} "
                f"pictures: use a multiple, such as {max(1, round(value / per_step)) * per_step}"
            )
    return config.corpus.count // per_step, config.corpus.shard_size // per_step


def _degrader(config: ml_collections.ConfigDict) -> Callable:
    """Compiled: photos (P, S, S, 3) uint8, index (P,), step -> images (K, P, S, S, 3) uint8, chains."""

    @jax.jit
    def degrade(photos: jax.Array, index: jax.Array, step: int) -> tuple[jax.Array, degradations.Chain]:
        images, chains, _ = pretrain.degrade(config, photos.astype(jnp.float32) / 255.0, index, step)
        return jnp.round(images[0] * 255.0).astype(jnp.uint8), jax.tree.map(lambda x: x[0], chains)

    return degrade


def _records(
    config: ml_collections.ConfigDict, source: Source, degrade: Callable, steps: range, threads: ThreadPoolExecutor
) -> Iterator[dict]:
    """The records of these steps, ordered by step, chain, photograph."""
    stream = pretrain.batches(config, source, steps.start, 0, 1)
    order, names = order_of(source, config.seed), source.column("image_id")
    pending = None
    for step, batch in itertools.chain(zip(steps, stream, strict=False), [(None, None)]):
        # The device computes this step while the host encodes the previous one.
        current = None if batch is None else (step, batch, degrade(batch["photo"], batch["index"], step))
        if pending is not None:
            photo_ids = [str(names[order(int(position))]) for position in pending[1]["index"]]
            yield from _encoded(config, *pending, photo_ids, threads)
        pending = current


def _encoded(config, step, batch, degraded, photo_ids: Sequence[str], threads) -> Iterator[dict]:
    images, chains = jax.tree.map(np.asarray, degraded)
    clean = list(threads.map(encode, batch["photo"]))
    encoded = iter(list(threads.map(encode, images.reshape(-1, *images.shape[2:]))))
    for chain, (types, severities) in enumerate(zip(chains.types, chains.severities, strict=True)):
        chain_id = step * config.pretrain.chains + chain
        for photo, position in enumerate(batch["index"]):
            yield {
                "image": next(encoded),
                "clean": clean[photo],
                "types": [NAMES[kind] for kind in types if kind != CLEAN],
                "severities": severities[types != CLEAN].tolist(),
                "photo_id": photo_ids[photo],
                "index": int(position),
                "chain_id": chain_id,
                "key": f"{chain_id:09d}-{int(position):09d}",
            }


def _describe(config: ml_collections.ConfigDict, source: Source) -> dict:
    """Everything that determines the bytes of a corpus, as JSON returns it."""
    recipe = pretrain.recipe(config)
    digest = hashlib.sha256()
    for i in range(len(source)):
        digest.update(str(source.column("image_id")[i]).encode() + b"\0")
        digest.update(hashlib.sha256(source.read(i)).digest())
    device = jax.devices()[0]
    code = hashlib.sha256()
    sources = sorted(pathlib.Path(degradations.__file__).parent.glob("*.py"))
    if not sources:
        raise RuntimeError(
            f"no source files of degradations beside {degradations.__file__}; the corpus cannot name them"
        )
    for file in (*sources, pathlib.Path(pretrain.__file__)):
        code.update(file.read_bytes())
    described = {
        "format": FORMAT,
        "seed": config.seed,
        "recipe": {type(recipe).__name__: dataclasses.asdict(recipe)},
        "degradations": NAMES,
        "photographs": {"count": len(source), "sha256": digest.hexdigest()},
        "crop": config.pretrain.crop,
        "halve": config.data.halve,
        "photos_per_step": config.batch_size,
        "chains_per_step": config.pretrain.chains,
        **config.corpus.to_dict(),
        "device": f"{device.platform}: {device.device_kind}",
        "processor": hashlib.sha256(processor().encode()).hexdigest()[:12],
        "code": code.hexdigest(),  # of the degradations, which change between releases
        "versions": {
            **versions(),
            "libwebp": pillow_features.version("webp"),
            **{name: metadata.version(name) for name in ("tensorflow_datasets", "array_record")},
        },
    }
    return json.loads(json.dumps(described))


def _claim(folder: pathlib.Path, described: dict) -> dict:
    """The manifest to continue with. Raises UserError if the folder holds another corpus or other files."""
    path = folder / MANIFEST
    fresh = {**described, "complete": False, "shards": {}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(folder.iterdir()):
                raise UserError(f"{folder} holds other files and no {MANIFEST}; use an empty or a new folder")
            write_json(folder / MANIFEST, fresh)
            return fresh
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path}: not a manifest; use another folder") from None
    for key in described:
        if manifest.get(key) != described[key]:
            raise UserError(f"{folder} holds a corpus of {_difference(key, manifest.get(key), described[key])}")
    for part in folder.glob(".*.part"):
        part.unlink()  # left by a killed run
    return {**manifest, "complete": False}


def _difference(key: str, there: Any, here: Any) -> str:
    values = "" if isinstance(here, dict | list) else f" ({there}; asked for is {here})"
    if key == "versions":
        changed = (f"{k} {there.get(k)}, here {v}" for k, v in here.items() if there.get(k) != v)
        values = f" ({'; '.join(changed)})"
    advice = f"use another folder, or the {key} of its {MANIFEST}"
    return f"another {key}{values}, and one corpus must not mix them; {advice}"
