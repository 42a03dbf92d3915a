"""Fetches the radiographs and keeps them only if they are complete.

In:  nothing (download.source: phantom), the one zip or folder in data/archive/ (archive), or the
     Kaggle data set and data/kaggle-manifest.csv, which lists its files (kaggle)
Out: data/raw/{train,test}/<class>/*, the images as they came
     data/raw/records.csv, what is known about them, if it came beside train/ and test/
     data/raw/provenance.json, where they came from: source, data, licence, files; and the
     SHA-256 over all files, so that who depends on this file depends on all of them
"""

import os
from collections.abc import Callable
from pathlib import Path

from stages.common import files, parallel, params, stage
from stages.common.errors import InputError, listed
from stages.sources import archive, layout, manifest
from stages.sources.settings import Download

RAW = Path("data/raw")
ARCHIVE = Path("data/archive")
MANIFEST = Path("data/kaggle-manifest.csv")
# The README of the system that this pipeline follows links a data set of face masks in one place;
# that is a mistake. Its results were made with this one.
KAGGLE = "pranavraikokte/covid19-image-dataset/2"  # owner/name/version
KAGGLE_FOLDER = "Covid19-dataset"
KAGGLE_PARTIAL = Path("data/.kaggle.partial")


def from_phantom(settings: Download, raw: Path) -> tuple[str, str]:
    """Makes synthetic radiographs in `raw`; gives a line on the data, and its licence."""
    from stages.sources import phantom

    phantoms = phantom.plan(settings.phantom_seed, settings.phantom_share)
    phantom.write(phantoms, raw, threads=parallel.available_cores())
    records = phantom.records(phantoms)
    files.write_csv(raw / layout.RECORDS, list(records[0]), records)
    return f"SYNTHETIC PHANTOM (seed {settings.phantom_seed})", "none needed: made by this program"


def from_archive(settings: Download, raw: Path) -> tuple[str, str]:
    """Unpacks or copies what is in data/archive/ to `raw`; gives a line on it, and its licence.

    Raises:
        InputError: it is unsafe, damaged, or not laid out as {train,test}/<class>/<images>.
    """
    source = archive.only_entry(ARCHIVE, "{train,test}/<class>/<images>")
    with archive.opened(source, settings) as contents:
        places = layout.arrange(contents.names, str(source))
        contents.unpack(places, raw)
    return archive.described(source, raw), "unknown"


def unpack_verified(
    zip_path: Path, entries: dict[str, manifest.Entry], raw: Path, settings: Download
) -> None:
    """Unpacks what Kaggle sent to `raw`, which then holds exactly the files of the manifest.

    Raises:
        InputError: it is no zip, or a file is missing, extra or different.
    """
    name = f"Kaggle data set {KAGGLE}"
    again = "was thrown away; run the same command again"
    try:
        with archive.opened(zip_path, settings) as contents:
            places = {name: name for name in contents.names if not name.endswith("/")}
            contents.unpack(places, raw)
    except InputError as error:
        raise InputError(f"{name}: what came is unusable and {again}. {error}") from None
    if lines := manifest.differences(entries, raw):
        raise InputError(
            f"{name}: what came is not what {MANIFEST} lists ({len(entries)} files). "
            f"It {again}.\n{listed(lines)}"
        )
    for split in layout.SPLITS:
        os.rename(raw / KAGGLE_FOLDER / split, raw / split)
    (raw / KAGGLE_FOLDER).rmdir()


def from_kaggle(settings: Download, raw: Path) -> tuple[str, str]:
    """Fetches the Kaggle data set to `raw`; gives a line on it, and its licence.

    Raises:
        InputError: nothing came, or not exactly what the manifest lists.
    """
    from stages.sources import kaggle_client

    entries = manifest.read(MANIFEST)
    for resumed in (KAGGLE_PARTIAL.exists(), False):
        zip_path = kaggle_client.download(KAGGLE, KAGGLE_PARTIAL)
        try:
            unpack_verified(zip_path, entries, raw, settings)
            break
        except InputError:
            if not resumed:
                raise
            # An error page may stand in the middle of what an earlier run had left.
            print("download: what was left of a broken transfer is unusable; starting afresh")
            files.remove(raw)
        finally:
            files.remove(KAGGLE_PARTIAL)
    data_set, _, version = KAGGLE.rpartition("/")
    return f"Kaggle {data_set} version {version}", "CC BY-SA 4.0"


SOURCES: dict[str, Callable[[Download, Path], tuple[str, str]]] = {
    "phantom": from_phantom,
    "archive": from_archive,
    "kaggle": from_kaggle,
}


def main() -> None:
    """Reads params.yaml and writes data/raw, all of it or nothing."""
    settings = params.load(Download)
    if settings.source != "kaggle":
        files.remove(KAGGLE_PARTIAL)
    with files.atomic_write(RAW) as raw:
        data, licence = SOURCES[settings.source](settings, raw)
        count = len(list(raw.glob("*/*/*")))
        records = f" and {layout.RECORDS}" if (raw / layout.RECORDS).exists() else ""
        provenance = {
            "source": settings.source,
            "data": data,
            "licence": licence,
            "files": count,
            "sha256": files.sha256_of_folder(raw),
        }
        files.write_json(raw / "provenance.json", provenance)
    print(f"download: {count} files{records} in {RAW}: {data}")


if __name__ == "__main__":
    stage.script("download", main, __doc__)
