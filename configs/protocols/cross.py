"""Zero-shot: the bundled `lite`, trained on BIQ2021's training split, tested on all images of other data sets.

python tools/avt_csv.py image_quality_test/test_1/images image_quality_test/test_1/mos_ci.csv
driqa protocol --config configs/protocols/cross.py --workdir cross \
    --config.across.avt.path=image_quality_test/test_1/avt.csv

Sets without a path are skipped. Set the path of each set that you prepared with `driqa data prepare`, for example
--config.across.koniq10k.path=prepared. AVT images, coded at 144 to 2160 rows, were shown at 2160 rows and are resized
to that height (Lanczos) before scoring; MOS is from 1 to 5. Check with `driqa data leaks` that two sets are disjoint
before calling a result zero-shot.
"""

from driqa_jax.protocol.config import default

PREPARED = ("csiq", "flive", "kadid10k", "koniq10k", "live", "livec", "pipal", "spaq", "tid2013")


def get_config():
    avt = {"kind": "folder", "mos_range": (1.0, 5.0), "height": 2160}
    config = default(rows={"lite": {"weights": "lite"}}, across={"avt": avt, **{name: {} for name in PREPARED}})
    config.test = ""
    return config
