"""Groups of copies as one picture, so that a person can confirm that each shows one radiograph."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stages.common import files

_THUMBNAIL, _GAP, _FONT_SIZE, _LINE = 240, 12, 12, 15  # pixels
_MOST_GROUPS, _MOST_MEMBERS = 60, 6

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Member = tuple[str, Image.Image]


def _wrapped(path: str, font: Font) -> list[str]:
    """Breaks a path, wherever that is, into lines no wider than a thumbnail."""
    lines = [""]
    for letter in path:
        if font.getlength(lines[-1] + letter) > _THUMBNAIL:
            lines.append("")
        lines[-1] += letter
    return lines


def _row(heading: str, members: Sequence[Member], width: int, font: Font) -> Image.Image:
    """One group: a heading, then the pictures side by side with their paths beneath."""
    labels = [_wrapped(path, font) for path, _ in members]
    top = _LINE + _GAP // 2
    height = _LINE + _THUMBNAIL + 2 * _GAP + max(map(len, labels)) * _LINE
    row = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(row)
    draw.text((_GAP, 0), heading, "black", font)
    for place, ((_, picture), lines) in enumerate(zip(members, labels, strict=True)):
        left = _GAP + place * (_THUMBNAIL + _GAP)
        row.paste(picture.convert("RGB").resize((_THUMBNAIL, _THUMBNAIL)), (left, top))
        for number, line in enumerate(lines):
            draw.text((left, top + _THUMBNAIL + 2 + number * _LINE), line, "black", font)
    return row


def write(
    target: Path,
    title: str,
    groups: Sequence[Sequence[str]],
    picture_of: Callable[[str], Image.Image],
) -> None:
    """Writes a PNG with one row per group.

    Args:
        target: The file to write.
        title: Stands above.
        groups: Paths of the copies in each group. The first 60 groups are drawn, and the first 6
            pictures of each; the text says how many more there are.
        picture_of: Gives the picture, of any size and mode, of a path; asked of those drawn alone.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    drawn = groups[:_MOST_GROUPS]
    columns = max([3, *(min(len(group), _MOST_MEMBERS) for group in drawn)])
    width = columns * (_THUMBNAIL + _GAP) + _GAP
    rows = []
    for number, group in enumerate(drawn, start=1):
        heading = f"Group {number}: {len(group)} files"
        if len(group) > _MOST_MEMBERS:
            heading += f", {len(group) - _MOST_MEMBERS} not drawn"
        members = [(path, picture_of(path)) for path in group[:_MOST_MEMBERS]]
        rows.append(_row(heading, members, width, font))
    sentence = f"{len(groups)} groups of near copies" if groups else "No near copies were found."
    if len(groups) > len(drawn):
        sentence += f"; {len(groups) - len(drawn)} more than are drawn here"
    top = 2 * (_LINE + _GAP)
    sheet = Image.new("RGB", (width, top + sum(row.height for row in rows)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, "black", font)
    draw.text((_GAP, _GAP + _LINE), sentence, "black", font)
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    with files.atomic_write(target) as partial:
        sheet.save(partial, "PNG")
