"""The files of a corpus: ArrayRecord shards as tensorflow_datasets reads them, written without TensorFlow.

    import tensorflow_datasets as tfds
    records = tfds.builder_from_directory("corpus").as_data_source("train")
    records[0]["image"], records[0]["clean"]  # uint8 (crop, crop, 3)

A record: `image` and `clean`, lossless WebP; `types` and `severities` of the steps in the order in which they were
applied (none: a clean picture); `photo_id`, the photograph's name in its source; `index`, the crop's place in the
stream of photographs; `chain_id`, which photographs under one chain share; `key`, unique in the corpus.

`clean` stands in every record, though all chains of a photograph share it: pairs are what restoration and
full-reference models read, in shuffled order, and a second look-up for each would double their reads. It is encoded
once. It costs about as much disk as `image`.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from driqa_jax.errors import UserError
from driqa_jax.io import part_name

NAME, SPLIT = "corpus", "train"


def encode(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as lossless WebP, at libwebp's fastest effort but one: the bytes are these ever after."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True, quality=20, method=1)
    return file.getvalue()


def features():
    """What a record holds, for tensorflow_datasets."""
    import tensorflow_datasets as tfds

    picture = tfds.features.Image(shape=(None, None, 3))
    return tfds.features.FeaturesDict(
        {
            "image": picture,
            "clean": picture,
            "types": tfds.features.Sequence(tfds.features.Text()),
            "severities": tfds.features.Sequence(np.float32),
            "photo_id": tfds.features.Text(),
            "index": np.int64,
            "chain_id": np.int64,
            "key": tfds.features.Text(),
        }
    )


def shard_path(folder: pathlib.Path, place: int, count: int) -> pathlib.Path:
    """Where shard `place` of `count` lies."""
    return folder / f"{NAME}-{SPLIT}.array_record-{place:05d}-of-{count:05d}"


def write_shard(path: pathlib.Path, records: Iterable[dict]) -> dict:
    """Write one shard, whole or not at all; returns its file name, number of records and sha256.

    Raises UserError, naming the path, where it cannot be written.
    """
    from tensorflow_datasets.core import example_serializer, file_adapters, writer

    class Serializer(example_serializer.ExampleSerializer):
        def serialize_example(self, example):
            # Protocol buffers write a record's keys in an order that differs from process to process, unless asked.
            return self.get_tf_example(example).SerializeToString(deterministic=True)

    described = features()
    shard = writer.ShardWriter(
        described,
        Serializer(described.get_serialized_info()),
        writer.ExampleWriter(file_adapters.FileFormat.ARRAY_RECORD),
    )
    part = part_name(path)
    try:
        count = shard.write(((record["key"], record) for record in records), part)
        digest = sha256(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
    return {"file": path.name, "records": count, "sha256": digest}


def sha256(path: pathlib.Path) -> str:
    """The digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_metadata(folder: pathlib.Path, lengths: Sequence[int], description: str) -> None:
    """What `tfds.builder_from_directory` needs beside the shards."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming

    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, split=SPLIT, filetype_suffix="array_record"
    )
    size = sum(shard_path(folder, place, len(lengths)).stat().st_size for place in range(len(lengths)))
    split = tfds.core.SplitInfo(name=SPLIT, shard_lengths=list(lengths), num_bytes=size, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(),
        split_infos=[split],
        filename_template=template,
        description=description,
        disable_shuffling=True,
        check_data=False,  # the check reads through TensorFlow
    )
