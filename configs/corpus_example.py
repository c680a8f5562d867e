"""A corpus of degraded photographs on disk: pairs, with the names and severities of what was done to each.

driqa degrade corpus --config configs/corpus_example.py --config.data.path=photos -o corpus

From a folder of photographs, each side at least 224 pixels and as free of JPEG's traces as can be had (with
--config.data.halve=True, each side 448: averaging 2x2 pixels removes most traces). It writes ArrayRecord files of
lossless WebP, which tensorflow_datasets reads without TensorFlow:

    import tensorflow_datasets as tfds
    records = tfds.builder_from_directory("corpus").as_data_source("train")
    pair = records[0]  # image, clean, types, severities, photo_id, index, chain_id, key

Stopped, the same command goes on at the first file that is missing. manifest.json says what made the corpus: the
same photographs, configuration, versions and kind of machine give the same bytes. Each step puts 4 crops under each
of 8 chains; 60 % of the chains are one degradation, 30 % one to four in any order, 10 % second order. Any key can be
set from the command line, as --config.seed=1 --config.corpus.count=100000 --config.pretrain.recipe.name=kadid.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.stage = "pretrain"
    config.data.kind = "photos"
    config.data.name = ""
    config.data.train = "train"
    config.batch_size = 4
    config.pretrain.chains = 8
    config.pretrain.crop = 224
    config.pretrain.recipe.name = "mixed"
    config.corpus.count = 3200
    config.corpus.shard_size = 320
    return config
