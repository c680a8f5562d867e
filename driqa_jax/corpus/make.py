"""A corpus: what the pretraining of a configuration sees, kept in files.

Photographs, crops, chains and noise are those of that configuration's stages 0+1 step by step; so a corpus is one
function of (configuration, photographs, versions), made in shards that do not depend on each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import features as pillow_features

from driqa_jax import degradations
from driqa_jax.compile_cache import processor
from driqa_jax.corpus import shards
from driqa_jax.data.pipeline import Order
from driqa_jax.data.source import Source
from driqa_jax.degradations import CLEAN, NAMES
from driqa_jax.errors import UserError
from driqa_jax.io import write_whole
from driqa_jax.provenance import versions
from driqa_jax.train.loop import sources
from driqa_jax.train.stages import pretrain

MANIFEST = "manifest.json"
FORMAT = "driqa_jax corpus 1"
Progress = Callable[[int, int], None]


def make(config: ml_collections.ConfigDict, folder: pathlib.Path, progress: Progress | None = None) -> dict:
    """Write the corpus of a configuration, or what is missing of it; returns its manifest.

    Every shard appears whole and is entered in the manifest, so a run that was stopped, however, goes on with the
    first missing shard, and the same bytes result. `progress(done, total)` is told pictures.

    Raises:
      UserError: the configuration asks for what cannot be, or the folder holds another corpus.
    """
    if config.pretrain.block:
        raise UserError("config.pretrain.block: a corpus puts every photograph of a step under every chain; leave it 0")
    plan = _Plan(config)
    source = sources(config)[0]
    manifest = _claim(folder, _describe(config, source))
    count = -(-plan.steps // plan.shard_steps)
    per_step = config.batch_size * config.pretrain.chains
    tell = progress or (lambda done, total: None)
    degrade = _degrader(config)
    with ThreadPoolExecutor() as threads:
        for place in range(count):
            first = place * plan.shard_steps
            last = min(first + plan.shard_steps, plan.steps)
            path = shards.shard_path(folder, place, count)
            if not _is_whole(path, manifest["shards"].get(path.name)):
                told = itertools.count(first * per_step + 1)
                records = _records(config, source, degrade, range(first, last), threads)
                counted = (record for record in records if tell(next(told), plan.steps * per_step) is None)
                written = shards.write_shard(path, counted)
                manifest["shards"][written.pop("file")] = written
                _write(folder, manifest)
            tell(last * per_step, plan.steps * per_step)
    lengths = [manifest["shards"][shards.shard_path(folder, i, count).name]["records"] for i in range(count)]
    shards.write_metadata(folder, lengths, f"Degraded photographs of seed {config.seed}; see {MANIFEST}.")
    manifest["complete"] = True
    _write(folder, manifest)
    return manifest


class _Plan:
    """Steps in all and in a shard. Raises UserError where pictures do not come out as whole steps."""

    def __init__(self, config):
        if config.stage != "pretrain":
            raise UserError(f"config.stage is {config.stage!r}; a corpus is made as 'pretrain' sees it")
        per_step = config.batch_size * config.pretrain.chains
        for key, value in config.corpus.items():
            if value < per_step or value % per_step:
                raise UserError(
                    f"config.corpus.{key} is {value}; a step makes batch_size x pretrain.chains = {per_step} "
                    f"pictures: give a multiple, such as {max(1, round(value / per_step)) * per_step}"
                )
        self.steps = config.corpus.count // per_step
        self.shard_steps = config.corpus.shard_size // per_step


def _degrader(config):
    """(photos uint8 (P, S, S, 3), index (P,), step) -> pictures uint8 (K, P, S, S, 3), chains; compiled once."""

    @jax.jit
    def degrade(photos, index, step):
        pictures, chains, _ = pretrain.degrade(config, photos.astype(jnp.float32) / 255.0, index, step)
        return jnp.round(pictures[0] * 255.0).astype(jnp.uint8), jax.tree.map(lambda x: x[0], chains)

    return degrade


def _records(config, source, degrade, steps, threads) -> Iterator[dict]:
    """The records of some steps: photograph by photograph within a chain, chain by chain within a step."""
    stream = pretrain.batches(config, source, steps.start, 0, 1)
    order, names = Order(len(source), config.seed), source.column("image_id")
    ahead = None
    for step, batch in itertools.chain(zip(steps, stream, strict=False), [(None, None)]):
        # The device works at this step while the host encodes the one before.
        now = None if batch is None else (step, batch, degrade(batch["photo"], batch["index"], step))
        if ahead is not None:
            photo_ids = [str(names[order(int(position))]) for position in ahead[1]["index"]]
            yield from _encoded(config, *ahead, photo_ids, threads)
        ahead = now


def _encoded(config, step, batch, degraded, photo_ids, threads):
    pictures, chains = jax.tree.map(np.asarray, degraded)
    clean = list(threads.map(shards.encode, batch["photo"]))
    encoded = iter(list(threads.map(shards.encode, pictures.reshape(-1, *pictures.shape[2:]))))
    for place, (types, severities) in enumerate(zip(chains.types, chains.severities, strict=True)):
        chain_id = step * config.pretrain.chains + place
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


def _describe(config, source: Source) -> dict:
    """All that the bytes of a corpus hang on, as JSON gives it back."""
    recipe = pretrain.recipe(config)
    digest = hashlib.sha256()
    for i in range(len(source)):
        digest.update(str(source.column("image_id")[i]).encode() + b"\0")
        digest.update(hashlib.sha256(source.read(i)).digest())
    device = jax.devices()[0]
    code = hashlib.sha256()
    for file in (*sorted(pathlib.Path(degradations.__file__).parent.glob("*.py")), pathlib.Path(pretrain.__file__)):
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
        "code": code.hexdigest(),  # of what degrades, which changes between two releases
        "versions": {
            **versions(),
            "libwebp": pillow_features.version("webp"),
            "tensorflow_datasets": metadata.version("tensorflow_datasets"),
            "array_record": metadata.version("array_record"),
        },
    }
    return json.loads(json.dumps(described))


def _claim(folder: pathlib.Path, described: dict) -> dict:
    """The manifest to go on with. Raises UserError where the folder holds another corpus, or other files."""
    path = folder / MANIFEST
    fresh = {**described, "complete": False, "shards": {}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(folder.iterdir()):
                raise UserError(f"{folder} holds other files and no {MANIFEST}; give an empty or a new folder")
            _write(folder, fresh)
            return fresh
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path}: not a manifest; give another folder") from None
    for key in described:
        if manifest.get(key) != described[key]:
            raise UserError(f"{folder} holds a corpus of {_difference(key, manifest.get(key), described[key])}")
    for part in folder.glob(".*.part"):
        part.unlink()  # of a run that was killed
    return {**manifest, "complete": False}


def _difference(key: str, there, here) -> str:
    said = "" if isinstance(here, (dict, list)) else f" ({there}; asked for is {here})"
    if key == "versions":
        changed = (f"{k} {there.get(k)}, here {v}" for k, v in here.items() if there.get(k) != v)
        said = f" ({'; '.join(changed)})"
    return (
        f"another {key}{said}, and shards of both would be mixed; give another folder, or go on with the {key} "
        f"that its {MANIFEST} holds"
    )


def _is_whole(path: pathlib.Path, entry: dict | None) -> bool:
    return entry is not None and path.is_file() and shards.sha256(path) == entry["sha256"]


def _write(folder: pathlib.Path, manifest: dict) -> None:
    write_whole(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
