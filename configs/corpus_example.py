"""A corpus of degraded photographs on disk: image pairs with the names and severities of the degradations.

driqa degrade corpus --config configs/corpus_example.py --config.data.path=photos -o corpus

The photographs must have sides of at least 224 pixels and few JPEG artifacts (with --config.data.halve=True, sides of
at least 448: averaging 2x2 pixels removes most artifacts). The output is ArrayRecord files of lossless WebP, which
tensorflow_datasets reads without TensorFlow:

    import tensorflow_datasets as tfds
    records = tfds.builder_from_directory("corpus").as_data_source("train")
    pair = records[0]  # image, clean, types, severities, photo_id, index, chain_id, key

After an interruption, the same command continues at the first missing file. manifest.json records the inputs: the same
photographs, configuration, versions and kind of machine give the same bytes. Each step applies each of 8 chains to 4
crops; 60 % of the chains are one degradation, 30 % one to four in any order, 10 % second order. Set any key on the
command line, for example --config.seed=1 --config.corpus.count=100000 --config.pretrain.recipe.name=kadid.
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
