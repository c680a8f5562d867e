"""Convert the AVT image quality test (H.265 at heights of 144 to 2160 rows) to a CSV for `driqa`.

    git clone https://github.com/Telecommunication-Telemedia-Assessment/image_quality_test
    python tools/avt_csv.py image_quality_test/test_1/images image_quality_test/test_1/mos_ci.csv

Writes avt.csv beside the image folder, with the source of each image as its reference. Ratings without an image are
skipped and counted. The images have their coded size; viewers saw them at 2160 rows, to which
configs/protocols/cross.py resizes them. The authors publish the test under the GPL-3.0.
"""

import argparse
import csv
import pathlib


def main() -> None:
    parser = argparse.ArgumentParser(description="The AVT image quality test as a CSV image,mos,reference.")
    parser.add_argument("images", type=pathlib.Path, help="the folder test_1/images")
    parser.add_argument("scores", type=pathlib.Path, help="the file test_1/mos_ci.csv")
    args = parser.parse_args()
    with args.scores.open(newline="") as file:
        ratings = list(csv.DictReader(file))
    there = [rating for rating in ratings if (args.images / f"{rating['image_name']}.png").is_file()]
    out = args.images.parent / "avt.csv"
    with out.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "mos", "reference"])
        for rating in there:
            name = rating["image_name"]
            rows.writerow([f"{args.images.name}/{name}.png", rating["mos"], name.partition("_crf_")[0]])
    print(f"{out}: {len(there)} of {len(ratings)} rated pictures are here")


if __name__ == "__main__":
    main()
