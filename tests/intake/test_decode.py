import errno
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.intake.decode import Facts, UnreadableImageError, decode, image_files, resized
from tests import made, made_dicom

PROJECT = Path(__file__).resolve().parents[2]
GREY = made.picture(seed=7)
RGB = Image.merge("RGB", [made.picture(seed=seed) for seed in (7, 8, 9)])


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path.parent}")
    assert str(caught.value).endswith(caught.value.reason)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------------------- what can't be read


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", b"", "it is empty (0 bytes)"),
        ("a.png", b"to be done\n", "it is text, not an image"),
        ("a.png", "Größe: später".encode() * 200, "it is text, not an image"),
        (
            "a.jpg",
            b"\n<!DOCTYPE html>\n<title>Sign in</title>",
            "it is a web page, not an image; the download probably failed",
        ),
        (
            "a.jpg",
            b"\xef\xbb\xbf<html lang=en>",
            "it is a web page, not an image; the download probably failed",
        ),
        (
            "a.jpg",
            bytes(range(256)),
            "it is not an image in one of the formats read here "
            "(JPEG, PNG, TIFF, BMP, GIF, WEBP, DICOM)",
        ),
        (
            "a.jpg",
            made.encoded(GREY, "JPEG")[:20],
            "it begins as a JPEG file does, but its header is damaged or cut short",
        ),
        (
            "a.jpg",
            made.encoded(GREY, "PNG")[:10],
            "it begins as a PNG file does, but its header is damaged or cut short",
        ),
        (
            "a.ico",
            made.encoded(GREY, "ICO"),
            "it is not an image in one of the formats read here "
            "(JPEG, PNG, TIFF, BMP, GIF, WEBP, DICOM)",
        ),
    ],
)
def test_what_is_no_image(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    assert reason(written(tmp_path / name, data)) == expected


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {}),
    ],
)
def test_a_file_cut_in_half(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    data = made.encoded(RGB, kind, **options)
    text = reason(written(tmp_path / "a", data[: len(data) // 2]))
    assert text.startswith("its image data is damaged (") or "header is damaged" in text


def test_a_small_file_of_enormous_size(tmp_path: Path) -> None:
    row = b"\0" + bytes(30_000 // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(30_000)) + packer.flush()
    bomb = made.png(30_000, 30_000, zlib.compress(b"") + data, depth=1)
    assert len(bomb) < 200_000
    assert reason(written(tmp_path / "bomb.png", bomb)) == (
        "it has 900,000,000 pixels; expected at most 40,000,000, so scale it down"
    )
    smaller = made.png(8000, 8000, b"", depth=1)
    assert reason(written(tmp_path / "large.png", smaller)) == (
        "it has 64,000,000 pixels; expected at most 40,000,000, so scale it down"
    )


def test_the_largest_number_of_pixels_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", GREY)
    monkeypatch.setattr("stages.intake.decode.MAX_PIXELS", 96 * 80)
    assert decode(path)[0].size == (96, 80)
    monkeypatch.setattr("stages.intake.decode.MAX_PIXELS", 96 * 80 - 1)
    assert reason(path).startswith("it has 7,680 pixels; expected at most 7,679")


@pytest.mark.parametrize("size", [(1, 1), (31, 500), (500, 31)])
def test_a_picture_too_small_for_a_chest(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a.png", made.picture(1, size))
    expected = f"it has {size[0]} x {size[1]} pixels; expected at least 32 x 32"
    assert reason(path) == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_pictures_in_one_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    for seeds in ((1,), (1, 2)):
        more = [made.picture(seed) for seed in seeds]
        GREY.save(path, kind, save_all=True, append_images=more)
        assert reason(path) == f"it holds {1 + len(more)} pictures; expected one"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    pixels = np.asarray(made.floats(GREY)).copy()
    pixels[3, 4] = bad
    path = save(tmp_path / "a.tif", Image.fromarray(pixels))
    assert reason(path) == "it has pixels that are not finite numbers (NaN, infinity)"


@pytest.mark.parametrize("place", [2**64 - 1, 2**63 - 1, 2**62, 10**6])
def test_a_tiff_that_points_beyond_its_end(tmp_path: Path, place: int) -> None:
    # the larger ones are beyond what the operating system seeks to: it calls that EINVAL
    header = b"II+\0" + struct.pack("<HHQ", 8, 0, place)
    assert "damaged" in reason(written(tmp_path / "a.tif", header + bytes(64)))


def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines \x1b[31m \udcff.png"
    path.write_bytes(b"")
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    assert str(caught.value) == (
        f"{tmp_path}/two\\nlines \\x1b[31m \\udcff.png: it is empty (0 bytes)"
    )


def test_a_fault_of_the_machine_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent.png")
    path = save(tmp_path / "a.png", GREY)
    for fault in (OSError(errno.EIO, "Input/output error"), MemoryError()):
        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", lambda *_, fault=fault, **__: (_ for _ in ()).throw(fault))
            with pytest.raises(type(fault)) as caught:
                decode(path)
            assert caught.value is fault


# ------------------------------------------------------------------ what a person expects to see


def test_names_of_all_sorts(tmp_path: Path) -> None:
    for name in (
        "-rf.png",
        "a b.png",
        'it\'s "it".png',
        "рентген 胸部.png",
        "a\nb.png",
        "\udcff.png",
    ):
        picture, facts = decode(save_as_bytes(tmp_path / name))
        assert facts == Facts("PNG", "L", 96, 80)
        assert (values(picture) == values(GREY)).all()


def save_as_bytes(path: Path) -> Path:
    return written(path, made.encoded(GREY, "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = values(RGB)
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.swapaxes(0, 1),
        6: np.rot90(shown),
        7: np.rot90(shown, 2).swapaxes(0, 1),
        8: np.rot90(shown, -1),
    }[orientation].astype(np.uint8)
    recipes: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}}
    path = tmp_path / "a"
    Image.fromarray(stored).save(path, kind, exif=exif, **recipes.get(kind, {}))
    picture, facts = decode(path)
    assert picture.size == RGB.size
    assert np.abs(values(picture) - shown).max() <= (20 if kind == "JPEG" else 0)
    if kind != "TIFF":
        assert (facts.width, facts.height) == stored.shape[1::-1]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_there_is_not(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    picture, _ = decode(save(tmp_path / "a.png", RGB, exif=exif))
    assert (values(picture) == values(RGB)).all()


def test_damaged_exif_and_colour_profile_do_no_harm(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" + b"\x12\x01" * 30
    for kind in ("JPEG", "PNG", "WEBP"):
        path = tmp_path / "a"
        options = {"lossless": True} if kind == "WEBP" else {}
        RGB.save(path, kind, exif=exif, icc_profile=b"no profile at all", **options)
        picture, _ = decode(path)
        assert np.abs(values(picture) - values(RGB)).mean() < 4


def expected_on_black(alpha: Image.Image, picture: Image.Image) -> np.ndarray:
    share = np.asarray(alpha).astype(float)[:, :, None] / 255
    return values(picture) * share


ALPHA = made.picture(seed=10)


def with_alpha(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.putalpha(ALPHA)
    return picture


def test_what_is_transparent_shows_black(tmp_path: Path) -> None:
    for picture in (GREY, RGB):
        for kind in ("PNG", "TIFF"):
            path = tmp_path / "a"
            with_alpha(picture).save(path, kind)
            decoded, facts = decode(path)
            assert facts.mode in ("LA", "RGBA")
            assert decoded.mode == "RGB"
            assert np.abs(values(decoded) - expected_on_black(ALPHA, picture)).max() <= 1


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    picture = RGB.copy()
    picture.putalpha(255)
    decoded, _ = decode(save(tmp_path / "a.png", picture))
    assert (values(decoded) == values(RGB)).all()


def test_one_transparent_grey_or_colour(tmp_path: Path) -> None:
    white = Image.new("L", (64, 64), 255)
    white.paste(made.picture(1, (32, 64)).point(lambda value: value // 2), (0, 0))
    for mode, transparent in (("L", 255), ("RGB", (255, 255, 255))):
        path = save(tmp_path / "a.png", white.convert(mode), transparency=transparent)
        decoded = values(decode(path)[0])
        assert (decoded[:, 32:] == 0).all()
        assert (decoded[:, :32] == values(white)[:, :32]).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(tmp_path: Path, kind: str) -> None:
    palette = RGB.quantize(50)
    path = tmp_path / "a"
    palette.save(path, kind)
    decoded, facts = decode(path)
    assert facts.mode == "P"
    assert (values(decoded) == values(palette)).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(tmp_path: Path, kind: str) -> None:
    palette = RGB.quantize(50)
    path = tmp_path / "a"
    palette.save(path, kind, transparency=4)
    decoded = values(decode(path)[0])
    absent = np.asarray(palette) == 4
    assert absent.any()
    assert (decoded[absent] == 0).all()
    assert (decoded[~absent] == values(palette)[~absent]).all()


def test_one_bit(tmp_path: Path) -> None:
    picture, facts = decode(save(tmp_path / "a.png", GREY.convert("1")))
    assert (facts.mode, picture.mode) == ("1", "L")
    assert set(np.unique(np.asarray(picture))) == {0, 255}
    assert (values(picture) == values(GREY.convert("1"))).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    made.deep(GREY).save(path, kind)
    picture, facts = decode(path)
    assert facts.mode == "I;16"
    assert (values(picture) == values(GREY)).all()
    # also where all values are small: a dark picture stays dark
    Image.fromarray(np.full((64, 64), 200, np.uint16)).save(path, kind)
    assert np.unique(np.asarray(decode(path)[0])).tolist() == [1]


def test_sixteen_bits_in_the_other_byte_order(tmp_path: Path) -> None:
    for pixels in (np.asarray(made.deep(GREY)), np.full((80, 96), 200, np.uint16)):
        little = save(tmp_path / "a.tif", Image.fromarray(pixels))
        big = tmp_path / "b.tif"
        Image.frombytes("I;16B", (96, 80), pixels.astype(">u2").tobytes()).save(big)
        assert decode(big)[1].mode == "I;16B"
        assert (values(decode(big)[0]) == values(decode(little)[0])).all()


def test_sixteen_bits_in_colour(tmp_path: Path) -> None:
    pixels = values(RGB).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 96, 80, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + made.png_chunk(b"IHDR", header)
        + made.png_chunk(b"IDAT", zlib.compress(rows))
        + made.png_chunk(b"IEND", b"")
    )
    picture, _ = decode(written(tmp_path / "a.png", data))
    assert (values(picture) == values(RGB)).all()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.asarray(GREY).astype(np.int32), np.asarray(GREY)),  # 8 bits in 32
        (np.asarray(GREY).astype(np.int32) * 257, np.asarray(GREY)),  # 16 bits in 32
        (np.asarray(made.floats(GREY)), np.asarray(GREY)),  # fractions
        (np.asarray(GREY).astype(np.float32), np.asarray(GREY)),  # 8 bits as floats
        (np.asarray(GREY).astype(np.float32) * 257, np.asarray(GREY)),  # 16 bits as floats
        # integers of 0 and 1 are 8 bits that hardly differ, not fractions
        (np.asarray(GREY).astype(np.int32) // 128, np.asarray(GREY) // 128),
    ],
)
def test_wide_numbers(tmp_path: Path, pixels: np.ndarray, expected: np.ndarray) -> None:
    picture, facts = decode(save(tmp_path / "a.tif", Image.fromarray(pixels)))
    assert facts.mode in ("I", "F")
    assert picture.mode == "L"
    assert (np.asarray(picture) == expected).all()


def test_numbers_of_no_usual_range_go_from_black_to_white(tmp_path: Path) -> None:
    hounsfield = np.asarray(GREY).astype(np.int32) * 12 - 1024
    extreme = (np.asarray(GREY).astype(np.float64) / 127.5 - 1) * 3e38
    wide = np.asarray(GREY).astype(np.int32) * 300  # more than 16 bits hold
    for pixels in (hounsfield, extreme.astype(np.float32), wide):
        picture, _ = decode(save(tmp_path / "a.tif", Image.fromarray(pixels)))
        decoded = np.asarray(picture).astype(int)
        assert (decoded.min(), decoded.max()) == (0, 255)
        low, high = np.asarray(GREY).min(), np.asarray(GREY).max()
        expected = (np.asarray(GREY).astype(int) - low) * 255 / (high - low)
        assert np.abs(decoded - expected).max() <= 1


def test_a_picture_of_one_value(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.full((40, 40), -5.0, np.float32)))
    assert np.unique(np.asarray(decode(path)[0])).tolist() == [0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_cmyk_jpeg_with_adobe_marker_is_not_inverted(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    path = save(tmp_path / "a.jpg", RGB.convert("CMYK"), quality=98, **options)
    assert b"Adobe" in path.read_bytes()
    picture, facts = decode(path)
    assert (facts.mode, picture.mode) == ("CMYK", "RGB")
    assert np.abs(values(picture) - values(RGB)).mean() < 4


def test_interlaced_png(tmp_path: Path) -> None:
    picture, _ = decode(written(tmp_path / "a.png", made.interlaced_png(GREY)))
    assert (values(picture) == values(GREY)).all()


def test_a_camera_file_with_a_second_picture_behind_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    GREY.save(path, "MPO", save_all=True, append_images=[made.picture(3)], quality=98)
    picture, _ = decode(path)
    assert np.abs(values(picture) - values(GREY)).mean() < 4


def test_an_animation_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    GREY.save(path, save_all=True)
    assert (values(decode(path)[0]) == values(GREY)).all()


def test_extreme_aspect(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", made.picture(1, (32, 20_000)))
    assert decode(path)[0].size == (32, 20_000)
    assert resized(path, 200).size == (200, 200)


@pytest.mark.parametrize("size", [(1000, 1600), (401, 3000), (399, 800), (64, 64)])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.jpg", RGB.resize(size), quality=95)
    whole, facts = decode(path)
    assert whole.size == (facts.width, facts.height) == size
    part, _ = decode(path, at_least=400)
    assert np.abs(values(part.resize((40, 40))) - values(whole.resize((40, 40)))).mean() < 4
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(size) / scale >= 400)
    assert part.size == (-(-size[0] // scale), -(-size[1] // scale))


@pytest.mark.parametrize("size", [(1000, 1600), (64, 96), (200, 200)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_the_network_gets(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    picture = made.picture(1, size)
    path = tmp_path / "a"
    picture.save(path, kind)
    decoded = resized(path, 200)
    assert (decoded.mode, decoded.size) == ("RGB", (200, 200))
    plain = picture.resize((200, 200), Image.Resampling.LANCZOS)
    assert np.abs(values(decoded) - values(plain)).mean() < 1.5


def test_a_fraction_of_a_large_jpeg_keeps_the_detail_that_the_network_gets(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (450, 450), np.uint8)
    picture = Image.fromarray(noise).resize((900, 900), Image.Resampling.BICUBIC)
    plain = picture.resize((200, 200), Image.Resampling.LANCZOS)
    path = save(tmp_path / "a.jpg", picture, quality=98)
    assert np.abs(values(resized(path, 200)) - values(plain)).mean() < 2


def test_the_decoded_picture_outlives_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bmp", RGB)  # which Pillow maps into memory
    picture, _ = decode(path)
    path.write_bytes(b"")
    assert (values(picture) == values(RGB)).all()


# --------------------------------------------------------------------- where images may come from


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "DICOM"])
def test_a_file_in_memory_gives_what_it_gives_on_disk(tmp_path: Path, kind: str) -> None:
    picture = made.picture(seed=7, size=(640, 480))
    dicom = kind == "DICOM"
    data = made_dicom.picture(np.asarray(picture)) if dicom else made.encoded(picture, kind)
    path = written(tmp_path / "a", data)
    for at_least in (None, 100):
        from_disk, facts = decode(path, at_least)
        in_memory, same_facts = decode(io.BytesIO(data), at_least)
        assert facts == same_facts
        assert from_disk.tobytes() == in_memory.tobytes()
    assert resized(path, 50).tobytes() == resized(io.BytesIO(data), 50).tobytes()
    with path.open("rb") as file:
        decode(file)
        assert not file.closed


def test_an_error_of_a_file_in_memory_names_none() -> None:
    for data, expected in ((b"", "it is empty (0 bytes)"), (b"text", "it is text, not an image")):
        with pytest.raises(UnreadableImageError) as caught:
            decode(io.BytesIO(data))
        assert str(caught.value) == caught.value.reason == expected


def test_an_image_comes_through_a_pipe() -> None:
    code = "from pathlib import Path; from stages.intake import decode; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(decode.decode(Path('/dev/stdin'))[1].format)"],
        cwd=PROJECT,
        input=made.encoded(GREY, "PNG"),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"PNG\n"


def test_what_in_a_folder_looks_like_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom = made_dicom.picture(np.asarray(GREY))
    images = ["a/1.2.840.10008", "a/IM0001", "b.jpeg", "c.DCM", "d.dicom", "e.PNG"]
    others = {
        "DICOMDIR": dicom,
        "LICENSE": b"text",
        "f.txt": dicom,
        "g.v2": dicom,
        ".hidden/IM0001": dicom,
        ".IM0001": dicom,
        "short": dicom[:131],
        "1.5": b"",
    }
    for name, data in {**dict.fromkeys(images, dicom), **others}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    opened = []
    open_file: Any = Path.open

    def noting(path: Path, *mode: str) -> Any:
        opened.append(path.name)
        return open_file(path, *mode)

    monkeypatch.setattr(Path, "open", noting)
    assert [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)] == images
    assert sorted(opened) == ["1.2.840.10008", "1.5", "IM0001", "LICENSE", "short"]


def test_a_file_that_may_not_be_read_looks_like_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert image_files(tmp_path) == []


def test_without_a_dicom_file_pydicom_is_not_imported(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    code = (
        "import sys; from pathlib import Path; from stages.intake import decode; "
        f"decode.decode(Path({str(path)!r})); print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "'PIL'" in done.stdout
    assert not {"'pydicom'", "'gdcm'", "'pydantic'"} & set(done.stdout.strip("[]\n").split(", "))


# ------------------------------------------------------------------------------------------ fuzz


def test_mutated_files() -> None:
    """2,500 damaged files: a clear error or a picture each; no crash, hang or memory blow-up."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.intake.fuzz_images", str(seed), "1250"],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for seed in (0, 1)
    ]
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err.decode(errors="replace")[-3000:]
        record = json.load(io.BytesIO(out))
        assert record["pictures"] > 250
        assert record["errors"] > 250
        assert record["slowest"][0] < 5
        assert record["memory"] < 1e9
        beginnings = (
            "it is empty (0 bytes)",
            "it is text, not an image",
            "it is not an image in one of the formats read here",
            "it begins as a ",
            "it holds ",
            "it has ",
            "its image data is damaged (",
            "its DICOM header or image data is damaged or cut short",
            "it is a DICOM file without a picture",
            "it stores ",
            "its modality is ",
            "its pixels are ",
            "its transfer syntax is ",
            "the highest bit of its pixels is number ",
        )
        assert made_dicom.told((out + err).decode(errors="replace")) == []
        for text in record["reasons"]:
            assert text.startswith(beginnings)
