"""Sidecars: ratings and findings are written where programs read them, and nothing else changes."""

import json
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from driqa_jax.data.decode import register_heif
from driqa_jax.errors import UserError
from driqa_jax.reports import xmp
from driqa_jax.reports.sidecars import embedded_rating, sidecars_of
from driqa_jax.reports.xmp_packet import escaped, parse

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

# As Lightroom writes one: attributes, a packet wrapper with padding, CRLF, a character reference, a comment.
LIGHTROOM = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\r\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">\r\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\r\n'
    b"  <rdf:Description rdf:about=''\r\n"
    b'    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"\r\n'
    b'    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"\r\n'
    b'   xmp:Rating=\'4\' xmp:Label="Gr&#252;n" crs:Exposure2012="+0.35">\r\n'
    b"   <!-- kept -->\r\n"
    b"   <dc:subject><rdf:Bag><rdf:li>Alice</rdf:li><rdf:li>noise</rdf:li></rdf:Bag></dc:subject>\r\n"
    b"   <crs:ToneCurvePV2012><rdf:Seq><rdf:li>0, 0</rdf:li></rdf:Seq></crs:ToneCurvePV2012>\r\n"
    b"  </rdf:Description>\r\n </rdf:RDF>\r\n</x:xmpmeta>\r\n"
    b"                      \r\n<?xpacket end='w'?>"
)
# As darktable writes one: properties as attributes and elements, its history, hierarchical tags.
DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:darktable="http://darktable.sf.net/"
   xmp:Rating="1"
   darktable:history_end="1">
   <lr:hierarchicalSubject>
    <rdf:Seq>
     <rdf:li>people|Alice</rdf:li>
    </rdf:Seq>
   </lr:hierarchicalSubject>
   <darktable:history>
    <rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="exposure" darktable:params="gz03eJxjYGBgkGAA"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def written(tmp_path, data, *arguments, **options):
    """The bytes after `rate`, and its outcome."""
    path = tmp_path / "p.jpg.xmp"
    if data is not None:
        path.write_bytes(data)
    outcome = xmp.rate(path, *arguments, **options)
    return path.read_bytes() if path.exists() else None, outcome


def test_a_new_sidecar_holds_the_rating_and_the_findings(tmp_path):
    data, outcome = written(tmp_path, None, 3, ["motion blur", "noise"])
    assert outcome == (tmp_path / "p.jpg.xmp", None, 3, True, False)
    fields = xmp.fields_of(data)
    assert (fields.rating, fields.person) == (3, None)
    assert fields.hierarchical == ("driqa|motion blur", "driqa|noise")
    assert fields.tags == ("driqa/motion blur", "driqa/noise") and fields.subject == ("motion blur", "noise")
    assert list(tmp_path.iterdir()) == [tmp_path / "p.jpg.xmp"]


def test_the_same_call_writes_the_same_bytes_and_the_second_nothing(tmp_path):
    first, _ = written(tmp_path, DARKTABLE, 3, ["noise"], made_from="m 50.00")
    again, outcome = written(tmp_path, None, 3, lambda: pytest.fail("asked again"), made_from="m 50.00")
    assert again == first and not outcome.changed


@pytest.mark.parametrize("before", [LIGHTROOM, DARKTABLE])
def test_all_other_bytes_stay(tmp_path, before):
    """Without our insertions, and with the old value of the rating, the file is what it was."""
    after, _ = written(tmp_path, before, 5, ["blur"])
    assert xmp.fields_of(after).rating == 5
    lines, kept = before.splitlines(), after
    for line in lines:
        if b"Rating" not in line and b"dc:subject" not in line:
            assert line in kept
            kept = kept[kept.index(line) + len(line) :]
    if before is LIGHTROOM:
        assert b"xmp:Rating='5'" in after
        item = b"<rdf:li>noise</rdf:li>"
        assert item + b"<rdf:li>blur</rdf:li>" in after  # in the person's list, after it


def test_a_person_keeps_higher_ratings_and_rejects(tmp_path):
    after, outcome = written(tmp_path, LIGHTROOM, 2)
    assert outcome.refused and outcome.before == outcome.after == 4 and after == LIGHTROOM
    rejected = LIGHTROOM.replace(b"xmp:Rating='4'", b"xmp:Rating='-1'")
    assert written(tmp_path, rejected, 5)[1].refused
    after, outcome = written(tmp_path, LIGHTROOM, 2, overwrite=True)
    assert not outcome.refused and xmp.fields_of(after).rating == 2
    assert written(tmp_path, LIGHTROOM, -1)[1].refused


def test_a_raised_rating_does_not_fall_below_the_persons(tmp_path):
    _, outcome = written(tmp_path, DARKTABLE.replace(b'"1"', b'"2"', 1).replace(b'Rating="1"', b'Rating="2"'), 4)
    assert (outcome.before, outcome.after) == (2, 4)
    _, outcome = written(tmp_path, None, 3)
    assert (outcome.before, outcome.after, outcome.refused) == (4, 3, False)
    data, outcome = written(tmp_path, None, 1)
    assert (outcome.before, outcome.after, outcome.refused) == (3, 2, True)
    assert xmp.fields_of(data)[:2] == (2, 2)


def test_our_own_rating_may_fall_and_an_edited_one_is_a_persons(tmp_path):
    written(tmp_path, None, 4)
    data, outcome = written(tmp_path, None, 2)
    assert outcome.after == 2 and not outcome.refused
    edited = data.replace(b'xmp:Rating="2"', b'xmp:Rating="5"')
    assert xmp.fields_of(edited).person == 5
    assert written(tmp_path, edited, 3)[1].refused
    _, outcome = written(tmp_path, data.replace(b'xmp:Rating="2"', b'xmp:Rating="0"'), 3)
    assert outcome.after == 3  # unrated


def test_findings_replace_only_our_own(tmp_path):
    data, _ = written(tmp_path, LIGHTROOM, 5, ["noise", "blur"])
    fields = xmp.fields_of(data)
    # "noise" is the person's; lists that we add hold the person's keywords, since programs read one list only
    assert fields.subject == ("Alice", "noise", "blur")
    assert fields.hierarchical == ("Alice", "noise", "driqa|noise", "driqa|blur")
    assert fields.tags == ("Alice", "noise", "driqa/noise", "driqa/blur")
    fields = xmp.fields_of(written(tmp_path, None, 5, [])[0])
    assert fields.subject == ("Alice", "noise")
    assert fields.hierarchical == fields.tags == ("Alice", "noise")


def test_hierarchies_are_copied_into_the_list_that_is_missing(tmp_path):
    fields = xmp.fields_of(written(tmp_path, DARKTABLE, 2, ["noise"])[0])
    assert fields.hierarchical == ("people|Alice", "driqa|noise")
    assert fields.tags == ("people/Alice", "driqa/noise")


def test_forms_of_a_rating_element_an_empty_list_and_another_prefix(tmp_path):
    data = DARKTABLE.replace(b'   xmp:Rating="1"\n', b"").replace(
        b"   <lr:hierarchicalSubject>", b"   <xmp:Rating>3.0</xmp:Rating>\n   <lr:hierarchicalSubject>"
    )
    assert xmp.fields_of(data).rating == 3
    assert b"<xmp:Rating>4</xmp:Rating>" in written(tmp_path, data, 4)[0]
    empty = b'<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:R="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    assert xmp.fields_of(written(tmp_path, empty, 4, ["noise"])[0]).rating == 4
    no_items = DARKTABLE.replace(b"     <rdf:li>people|Alice</rdf:li>\n", b"").replace(
        b"<rdf:Seq>\n    </rdf:Seq>", b"<rdf:Seq/>"
    )
    assert xmp.fields_of(written(tmp_path, no_items, 4, ["noise"])[0]).hierarchical == ("driqa|noise",)


@pytest.mark.parametrize(
    "data, problem",
    [
        (b"", "no well-formed XML"),
        (b"<a>", "no well-formed XML"),
        (b"<a/>", "no rdf:RDF"),
        (LIGHTROOM.decode().encode("utf-16"), "UTF-16"),
        (b'<!DOCTYPE a [<!ENTITY e "boom">]><a>&e;</a>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>" * 200 + b"</a>" * 200, "100 elements deep"),
        (DARKTABLE.replace(b'xmp:Rating="1"', b'lr:hierarchicalSubject="x"'), "in an attribute"),
        (
            LIGHTROOM.replace(b"<rdf:Bag><rdf:li>Alice</rdf:li><rdf:li>noise</rdf:li></rdf:Bag>", b"Alice"),
            "than a list",
        ),
    ],
)
def test_what_is_no_sidecar_is_refused_and_kept(tmp_path, data, problem):
    path = tmp_path / "p.xmp"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"p.xmp: .*{problem}"):
        xmp.rate(path, 3, ["noise"])
    assert path.read_bytes() == data


def test_a_dry_run_writes_nothing(tmp_path):
    data, outcome = written(tmp_path, None, 3, ["noise"], dry_run=True)
    assert data is None and outcome.changed and list(tmp_path.iterdir()) == []


def test_ratings_out_of_range_are_refused(tmp_path):
    for rating in (-2, 6, True):
        with pytest.raises(ValueError, match="-1 to 5"):
            xmp.rate(tmp_path / "p.xmp", rating)


def test_a_person_may_edit_the_sidecar_while_the_image_is_explained(tmp_path):
    path = tmp_path / "p.jpg.xmp"

    def findings():
        path.write_bytes(LIGHTROOM)  # rated 4
        return ["noise"]

    outcome = xmp.rate(path, 2, findings, made_from="m 50.00")
    assert outcome.refused and xmp.read_sidecar(path).rating == 4 and "Alice" in xmp.read_sidecar(path).subject


def test_permissions_stay_and_a_read_only_sidecar_is_refused(tmp_path):
    path = tmp_path / "p.xmp"
    path.write_bytes(LIGHTROOM)
    path.chmod(0o660)
    assert xmp.rate(path, 5).changed and path.stat().st_mode & 0o777 == 0o660
    path.chmod(0o440)
    with pytest.raises(UserError, match="p.xmp: is read-only"):
        xmp.rate(path, 3)
    assert xmp.read_sidecar(path).rating == 5


@given(st.text())
@example("no\xa0break, \u5bb6\u3000\u65cf, \U0001f468\u200d\U0001f469")
def test_any_text_survives_in_every_position(text):
    data = xmp.edited(DARKTABLE, {xmp._MADE_FROM: text}, [text], "x")
    forbidden = {"Cc", "Cs"}
    expected = "".join(c for c in text if unicodedata.category(c) not in forbidden and c not in "\ufffe\uffff")
    assert parse(data, "x") is not None
    fields = xmp.fields_of(data)
    assert fields.made_from == expected
    assert expected.strip() in [each.removeprefix("driqa|").strip() for each in fields.hierarchical]
    assert escaped(text).isascii()


@given(st.sampled_from([LIGHTROOM, DARKTABLE]), st.integers(0, 1500), st.integers(0, 40), st.binary(max_size=12))
def test_damage_is_refused_or_edited_into_a_sound_packet(packet, at, removed, inserted):
    damaged = packet[:at] + inserted + packet[at + removed :]
    try:
        fields = xmp.fields_of(damaged)
        data = xmp.edited(damaged, {xmp._RATING: "5"}, ["blur"])
    except UserError:
        return
    after = xmp.fields_of(data)
    assert after.rating == 5 and "driqa|blur" in after.hierarchical and "blur" in after.subject
    assert set(fields.hierarchical) <= set(after.hierarchical) and set(fields.subject) <= set(after.subject)


# ------------------------------------------------------------------------------------------------------- photos
def test_names_of_sidecars(tmp_path):
    for name in ("a.jpg", "a.cr2", "b.jpg", "b.png", "c.nef"):
        (tmp_path / name).touch()
    path = str(tmp_path)
    names = {
        (name, naming): [str(each).removeprefix(f"{path}/") for each in sidecars_of(f"{path}/{name}", naming)]
        for name in ("a.jpg", "c.nef")
        for naming in xmp.NAMINGS
    }
    assert names == {
        ("a.jpg", "lightroom"): ["a.xmp"],
        ("a.jpg", "darktable"): ["a.jpg.xmp", "a.cr2.xmp"],  # one photo
        ("c.nef", "lightroom"): ["c.xmp"],
        ("c.nef", "darktable"): ["c.nef.xmp"],
    }
    with pytest.raises(UserError, match="b.xmp: would be the sidecar of b.jpg and of b.png"):
        sidecars_of(f"{path}/b.jpg", "lightroom")
    with pytest.raises(ValueError, match="lightroom, darktable"):
        xmp.sidecar_path("a.jpg", "other")


def test_a_rating_inside_the_image_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # ours counts, not Pillow's own
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / "a.jpg", xmp=LIGHTROOM)
    exif = Image.Exif()
    exif[0x4746] = 3
    image.save(tmp_path / "b.jpg", exif=exif)
    image.save(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").write_bytes(b"no image")
    assert [embedded_rating(tmp_path / f"{name}.jpg") for name in "abcd"] == [4, 3, None, None]
    if register_heif():
        image.resize((64, 64)).save(tmp_path / "a.heic", xmp=LIGHTROOM)
        assert embedded_rating(tmp_path / "a.heic") == 4
    (tmp_path / "a.cr3").write_bytes(bytes(5000) + LIGHTROOM + bytes(900))
    (tmp_path / "b.raf").write_bytes(bytes(5000))
    assert [embedded_rating(tmp_path / name) for name in ("a.cr3", "b.raf", "c.nef")] == [4, None, None]
    outcome = xmp.rate(tmp_path / "a.xmp", 2, ["noise"], embedded=4)
    assert outcome.refused and xmp.read_sidecar(tmp_path / "a.xmp").rating is None


# ----------------------------------------------------------------------------------------------------- exiftool
def exiftool(path, *arguments):
    words = ["exiftool", "-json", "-struct", "-G1", "-XMP:all", *arguments, str(path)]
    (found,) = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


@needs_exiftool
@pytest.mark.parametrize("before", [LIGHTROOM, DARKTABLE, None])
def test_exiftool_reads_what_we_wrote_and_keeps_it(tmp_path, before):
    path = tmp_path / "p.jpg.xmp"
    if before:
        path.write_bytes(before)
    earlier = exiftool(path) if before else {}
    xmp.rate(path, 5, ["out of focus", "café & <x>"])
    found = exiftool(path)
    assert found["XMP-xmp:Rating"] == 5
    assert found["XMP-lr:HierarchicalSubject"][-2:] == ["driqa|out of focus", "driqa|café & <x>"]
    assert found["XMP-digiKam:TagsList"][-2:] == ["driqa/out of focus", "driqa/café & <x>"]
    assert {"out of focus", "café & <x>"} <= set(found["XMP-dc:Subject"])
    ours = {"XMP-x:XMPToolkit", "XMP-xmp:Rating", "XMP-lr:HierarchicalSubject", "XMP-dc:Subject"}
    for key in earlier.keys() - ours:
        assert found[key] == earlier[key], key

    # a person changes the rating with exiftool, which rewrites the file in its own form
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP-xmp:Rating=4", str(path)], check=True)
    outcome = xmp.rate(path, 3, ["noise"])
    assert outcome.refused
    found = exiftool(path)
    assert found["XMP-xmp:Rating"] == 4 and "driqa|noise" in found["XMP-lr:HierarchicalSubject"]
    assert "driqa|out of focus" not in found["XMP-lr:HierarchicalSubject"]
    for key in earlier.keys() - ours:
        assert found[key] == earlier[key], key
