"""The public data sets, a few generated pictures each, in the very layout that their authors distribute."""

import io
import pathlib
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import scipy.io
from PIL import Image

from driqa_jax.data.datasets import live as live_layout


def draw(path: pathlib.Path, seed: int = 0) -> None:
    """A small picture unlike any other seed's, in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    kind = {".bmp": "BMP", ".png": "PNG"}.get(path.suffix.lower(), "JPEG")
    Image.fromarray(rough).resize((40, 30), Image.Resampling.BICUBIC).save(file, kind)
    path.write_bytes(file.getvalue())


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def names_cell(names):
    cell = np.empty(len(names), object)
    cell[:] = names
    return cell


def write_xlsx(path, sheets, absolute=False, first_row=1, first_column=0):
    """A workbook: strings shared, numbers as numbers; `sheets` is {name: rows}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    shared: list[str] = []

    def cell(value, row, column):
        place = f"{chr(ord('A') + first_column + column)}{row}"
        if isinstance(value, str):
            shared.append(value)
            return f'<c r="{place}" t="s"><v>{len(shared) - 1}</v></c>'
        return f'<c r="{place}"><v>{value}</v></c>'

    with zipfile.ZipFile(path, "w") as archive:
        for number, rows in enumerate(sheets.values(), start=1):
            lines = [
                f'<row r="{row}">{"".join(cell(value, row, column) for column, value in enumerate(values))}</row>'
                for row, values in enumerate(rows, start=first_row)
            ]
            page = f'<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
            archive.writestr(f"xl/worksheets/sheet{number}.xml", page)
        entries = "".join(
            f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(sheets, start=1)
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets>{entries}</sheets></workbook>'
        )
        top = "/xl/" if absolute else ""
        targets = "".join(
            f'<Relationship Id="rId{n}" Target="{top}worksheets/sheet{n}.xml"/>' for n in range(1, len(sheets) + 1)
        )
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{targets}</Relationships>")
        strings = "".join(f"<si><t>{escape(text)}</t></si>" for text in shared)
        archive.writestr("xl/sharedStrings.xml", f'<sst xmlns="{main}">{strings}</sst>')


def write_live(folder, rows=None):
    """`rows`: {"jpeg/img1.bmp": (dmos, std, reference)}; all other of the 982 rows show references."""
    rows = rows or {
        "jp2k/img2.bmp": (15.5, 3.0, "bikes.bmp"),
        "jp2k/img10.bmp": (111.75, 2.0, "caps.bmp"),
        "jpeg/img1.bmp": (-2.5, 1.0, "bikes.bmp"),
        "fastfading/img174.bmp": (50.0, 4.0, "caps.bmp"),
    }
    top = folder / "databaserelease2"
    places = [f"{name}/img{k}.bmp" for name, count in live_layout.FOLDERS.items() for k in range(1, count + 1)]
    absent = (0.0, 0.0, "ocean.bmp")
    values = [rows.get(place, absent) for place in places]
    top.mkdir(parents=True)
    for seed, name in enumerate(rows):
        draw(top / name, seed)
    scipy.io.savemat(top / "refnames_all.mat", {"refnames_all": names_cell([ref for _, _, ref in values])[None, :]})
    scipy.io.savemat(
        top / "dmos_realigned.mat",
        {
            "dmos_new": np.array([[dmos for dmos, _, _ in values]]),
            "dmos_std": np.array([[std for _, std, _ in values]]),
            "orgs": np.array([[place not in rows for place in places]], np.uint8),
        },
    )
    return folder


CSIQ = [  # reference, the sheet's word, file token, level, std, dmos
    (1600, "noise", "AWGN", 1, 0.05, 0.0625),
    ("sunset_sparrow", "noise", "AWGN", 1, 0.1, 0.25),
    ("sunsetcolor", "noise", "AWGN", 1, 0.1, 0.75),
    (1600, "jpeg 2000", "jpeg2000", 2, 0.05, 0.5),
    ("sunsetcolor", "contrast", "contrast", 4, 0.2, 1.0),
]


def write_csiq(folder, sheet=True):
    for seed, (name, _, token, level, _, _) in enumerate(CSIQ):
        draw(folder / "dst_imgs" / token.upper() / f"{name}.{token}.{level}.png", seed)
    if sheet:
        head = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
        rows = [head, *([name, 1, kind, level, std, dmos] for name, kind, _, level, std, dmos in reversed(CSIQ))]
        page = {"all_by_distortion": [["other"]], "all_by_image": rows}
        write_xlsx(folder / "csiq.DMOS.xlsx", page, first_row=4, first_column=3)
    else:
        text = "".join(f"{name}.{token}.{level}.png {dmos}\n" for name, _, token, level, _, dmos in CSIQ)
        write(folder / "csiq_label.txt", text)
    return folder


def write_tid2013(folder):
    rows = [("4.5", "I01_01_1.bmp"), ("0.24242", "i01_24_5.bmp"), ("7.2", "I25_08_2.bmp"), ("9", "i25_01_1.BMP")]
    for seed, (_, name) in enumerate(rows):
        draw(folder / "distorted_images" / name.swapcase(), seed)
    write(folder / "mos_with_names.txt", "".join(f"{score} {name}\r\n" for score, name in rows))
    write(folder / "mos_std.txt", "".join(f"0.{k}5\r\n" for k in range(len(rows))))
    return folder


def write_kadid10k(folder):
    rows = [("I01_01_01", "4.57", "0.496"), ("I01_25_05", "1", "0"), ("I81_10_03", "3", "0.9")]
    top = folder / "kadid10k"
    for seed, (name, _, _) in enumerate(rows):
        draw(top / "images" / f"{name}.png", seed)
        draw(top / "images" / f"{name[:3]}.png", 100 + seed)
    text = "".join(f"{name}.png,{name[:3]}.png,{dmos},{var}\n" for name, dmos, var in rows)
    write(top / "dmos.csv", "dist_img,ref_img,dmos,var\n" + text)
    return folder


def write_livec(folder, rows=(("3.bmp", 63.5, 20.0), ("611.JPG", 0.0, 1.0), ("1163.bmp", 92.432, 9.0))):
    top = folder / "ChallengeDB_release"
    training = [f"t{k}.bmp" for k in range(1, 8)]
    for seed, name in enumerate([*(f"trainingImages/{name}" for name in training), *(name for name, _, _ in rows)]):
        if seed < 12:
            draw(top / "Images" / name, seed)
    vectors = {
        "AllImages_release": names_cell([*training, *(name for name, _, _ in rows)])[:, None],
        "AllMOS_release": np.array([[*range(7), *(mos for _, mos, _ in rows)]], float),
        "AllStdDev_release": np.array([[*range(7), *(std for _, _, std in rows)]], float),
    }
    (top / "Data").mkdir()
    for key, values in vectors.items():
        scipy.io.savemat(top / "Data" / f"{key}.mat", {key: values})
    return folder


KONIQ = [("10.jpg", 3.8, 77.5, "training"), ("20.jpg", 3.5, 68.75, "test"), ("30.jpg", 1.1, 3.92, "validation")]


def write_koniq10k(folder, sets=True, scores=True, images="1024x768"):
    for seed, (name, *_) in enumerate(KONIQ):
        draw(folder / images / name, seed)
    if sets:
        text = "".join(f"{name},0,0,.2,.7,.1,105,{z},0.52,{part}\n" for name, _, z, part in KONIQ)
        write(folder / "koniq10k_distributions_sets.csv", "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n" + text)
    if scores:
        text = "".join(f"{name},0,0,.2,.7,.1,105,{five},0.52,{z + 1}\n" for name, five, z, _ in KONIQ)
        head = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n"
        write(folder / "koniq10k_scores_and_distributions.csv", head + text)
    return folder


def write_spaq(folder):
    rows = [("00001.jpg", 48.86), ("00002.jpg", 2), ("11125.jpg", 96)]
    for seed, (name, _) in enumerate(rows):
        draw(folder / "TestImage" / name, seed)
    page = [["Image name", "MOS", "Brightness"], *([name, mos, 50.5] for name, mos in rows)]
    write_xlsx(folder / "Annotations" / "MOS and Image attribute scores.xlsx", {"Sheet1": page}, absolute=True)
    return folder


def write_flive(folder):
    rows = [
        ("blur_dataset/motion0044.jpg", 75.4, "val"),
        ("voc_emotic_ava/AVA__1.jpg", 0, "test"),
        ("EE371R/rq59.jpg", 50, "train"),
        ("voc_emotic_ava/EMOTIC__2.jpg", 94.333, "train"),
    ]
    top = folder / "database"
    for seed, (name, _, _) in enumerate(rows):
        draw(top / name, seed)
    write(top / "labels_image.csv", "name,mos\n" + "".join(f"{name},{mos}\n" for name, mos, _ in rows))
    test = "".join(f"70.1,patches/x.jpg,{name}\n" for name, _, part in rows if part == "test")
    write(top / "labels640.csv", "mos_patch_1,name_patch,name_image\n" + test)
    rest = "".join(f"{part == 'val'},{name}\n" for name, _, part in rows if part != "test")
    write(top / "labels=640_padded.csv", "is_valid,name_image\n" + rest)
    return folder


def write_pipal(folder):
    rows = {
        "A0001": ["A0001_00_00.bmp,1520.0648", "A0001_06_26.bmp, 916.7136"],
        "A0248": ["A0248_03_01.bmp ,1835.9856"],
    }
    for number, (reference, lines) in enumerate(rows.items(), start=1):
        draw(folder / "Train_Ref" / f"{reference}.bmp", number)
        write(folder / "Train_Label" / f"{reference}.txt", "\n".join(lines) + "\n")
        for seed, line in enumerate(lines):
            draw(folder / f"Distortion_{1 if number == 1 else 4}" / line[:15], 10 * number + seed)
    return folder


WRITERS = {
    "live": write_live,
    "csiq": write_csiq,
    "tid2013": write_tid2013,
    "kadid10k": write_kadid10k,
    "livec": write_livec,
    "koniq10k": write_koniq10k,
    "spaq": write_spaq,
    "flive": write_flive,
    "pipal": write_pipal,
}
# How many ratings there are in these small sets.
COUNTS = {
    "live": {"train": 4},
    "csiq": {"train": 5},
    "tid2013": {"train": 4},
    "kadid10k": {"train": 3},
    "livec": {"train": 3},
    "koniq10k": {"train": 1, "val": 1, "test": 1},
    "spaq": {"train": 3},
    "flive": {"train": 2, "val": 1, "test": 1},
    "pipal": {"train": 3},
}
