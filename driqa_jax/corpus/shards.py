"""The files of a corpus: ArrayRecord shards for tensorflow_datasets, written without TensorFlow.

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

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import example_serializer, file_adapters, naming, writer

from driqa_jax.io import file_sha256, image_bytes, replacing

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
