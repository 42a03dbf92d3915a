"""Tries ways of training the network, by cross-validation within train/ alone.

usage: python -m benchmarks.recipes [NAME ...] [--archive ZIP] [--external ZIP] [--deals 0 1 2]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms. No
image of test/ is looked at: who chooses by these numbers can still believe those of test/. Every
deal cuts train/ into five grouped folds and sets the seed of training; each radiograph counts once
in every deal. With an external zip (or one in data/external/) a network trained on all of train/
also says how many of its radiographs it calls Covid; copies of training images are left out.

Trains in the processor's short format (mixed_bfloat16), one thread a process: three quarters of the
time, and ranks recipes alike. A recipe takes three to ten minutes on two cores, all of them two
hours or three; --keep FOLDER keeps what is finished, so that an interrupted command goes on.
Prints a table in Markdown.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from benchmarks import judges
from benchmarks.novelty import external_set
from benchmarks.scratch import given_zip, project, run
from benchmarks.tables import spread
from stages.common import files, parallel, params
from stages.intake import decode
from stages.judging import baselines, comparison
from stages.learning import dataset, network, novelty, splits
from stages.sources import phantom

FOLDS = 5
COVID = "Covid"
OUTSIDE = Path("outside.npy")
_PAD = 40  # pixels around a picture, of its outermost ones, for what moves into it
_BATCH = 32
_PHANTOMS, _PHANTOM_SEED = 3800, 7
_LEAST = 1e-7  # of a probability, in the log loss


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; what is tried differs from this in a few settings.

    Attributes:
        optimizer: "adam" or "adamw", with `weight_decay`.
        learning_rate: The highest.
        schedule: "cosine", down to 0 after `warmup` epochs up, or "constant".
        epochs: At most, where it `stops` early (val_accuracy, patience 8), on a fifth held out.
        averaged: The momentum of the moving average of the weights; 0 is none.
        smoothing: Of the labels.
        mixup: The parameter alpha of the beta distribution (Zhang et al. 2018); 0 is none.
        grey: "" | percentiles (from the 1st to the 99th) | standardised: what is done
            to the grey values of every image.
        low_pass: The radius of a blur of every image, in pixels.
        rotation, shift, zoom: Of training images, at most: degrees, shares of the width.
        crop: How much of the width is cut off a training image, at most.
        flip: Whether every other training image is mirrored.
        brightness: How much brighter or darker, and richer or poorer in contrast, at most.
        blur: The radius of a blur of training images, at most, in pixels.
        mask: The width of a black border on training images, at most, in pixels.
        dropout: Before the last layer.
        pretrained: Whether training begins with weights that were learnt from phantoms.
        crops_judged: How many crops of an image are judged, too, and averaged with it.
        members: How many networks are averaged.
    """

    optimizer: str = "adam"
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 3
    epochs: int = 40
    stops: bool = False
    weight_decay: float = 0.0
    averaged: float = 0.0
    smoothing: float = 0.0
    mixup: float = 0.0
    grey: str = ""
    low_pass: float = 0.0
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    crop: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    blur: float = 0.0
    mask: int = 0
    dropout: float = 0.0
    pretrained: bool = False
    crops_judged: int = 0
    members: int = 1


RECIPES = {
    "original": Recipe(learning_rate=1e-4, schedule="constant", epochs=50, stops=True),
    "40 epochs at 0.0001": Recipe(learning_rate=1e-4, schedule="constant"),
    "cosine": Recipe(),  # each of the following differs from this one
    "cosine, 80 epochs": Recipe(epochs=80),
    "cosine, rate 0.001": Recipe(learning_rate=1e-3),
    "weight decay 0.05": Recipe(optimizer="adamw", weight_decay=0.05),
    "averaged weights": Recipe(averaged=0.99),
    "mixup 0.2": Recipe(mixup=0.2),
    "dropout 0.5": Recipe(dropout=0.5),
    "grey values from 1st to 99th percentile": Recipe(grey="percentiles"),
    "grey values standardised": Recipe(grey="standardised"),
    "low pass, 2 pixels": Recipe(low_pass=2.0),
    "random blur": Recipe(blur=3.0),
    "random crops": Recipe(crop=0.1),
    "random crops, judged by 9": Recipe(crop=0.1, crops_judged=8),
    "random border masks": Recipe(mask=20),
    "random brightness": Recipe(brightness=0.1),
    "random flips": Recipe(flip=True),
    "mild geometry, 80 epochs": Recipe(epochs=80, rotation=7, shift=0.04, zoom=0.06),
    "pre-trained on phantoms": Recipe(pretrained=True),
    "average of three networks": Recipe(members=3),
    "tuned: label smoothing 0.05": Recipe(smoothing=0.05),
    "label smoothing 0.1": Recipe(smoothing=0.1),
    "smoothing 0.05, 80 epochs": Recipe(smoothing=0.05, epochs=80),
    "smoothing 0.05, averaged weights": Recipe(smoothing=0.05, averaged=0.99),
    "smoothing 0.05, random border masks": Recipe(smoothing=0.05, mask=20),
    "smoothing 0.05, random crops, 80 epochs": Recipe(smoothing=0.05, crop=0.1, epochs=80),
}


def normalised(picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """What is done to every image, uint8, (SIZE, SIZE, 3)."""
    if recipe.grey == "percentiles":
        low, high = np.percentile(picture, (1, 99))
        stretched = (picture.astype(np.float32) - low) / max(high - low, 1) * 255
        return np.asarray(np.clip(stretched, 0, 255).astype(np.uint8))
    if recipe.grey == "standardised":
        values = picture.astype(np.float32)
        values = (values - values.mean()) / max(float(values.std()), 1) * 50 + 128
        return np.asarray(np.clip(values, 0, 255).astype(np.uint8))
    if recipe.low_pass:
        soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(recipe.low_pass))
        return np.asarray(soft)
    return picture


def moved(picture: np.ndarray, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
    """A training image turned, shifted, zoomed or cropped about its centre, at random."""
    angle = np.deg2rad(random.uniform(-recipe.rotation, recipe.rotation))
    scale = 1 + random.uniform(-recipe.zoom, recipe.zoom)
    slack = 0.0
    if recipe.crop:
        scale = 1 - random.uniform(0, recipe.crop)
        slack = (1 - scale) * dataset.SIZE / 2
    along = random.uniform(-recipe.shift, recipe.shift, 2) * dataset.SIZE
    right, down = along + random.uniform(-slack, slack, 2)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    centre = dataset.SIZE / 2
    matrix = (
        *(cosine, -sine, centre + _PAD - centre * (cosine - sine) + right),
        *(sine, cosine, centre + _PAD - centre * (sine + cosine) + down),
    )
    plain = picture[..., 0] if (picture == picture[..., :1]).all() else picture  # a third the time
    edges = ((_PAD, _PAD), (_PAD, _PAD), (0, 0))[: plain.ndim]
    padded = Image.fromarray(np.pad(plain, edges, mode="edge"))
    size, affine, how = picture.shape[:2], Image.Transform.AFFINE, Image.Resampling.BILINEAR
    seen = np.asarray(padded.transform(size, affine, matrix, how))
    return seen if seen.ndim == picture.ndim else np.repeat(seen[..., None], 3, axis=2)


def changed(seen: np.ndarray, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
    """A training image as one epoch sees it, uint8, (SIZE, SIZE, 3)."""
    if recipe.rotation or recipe.shift or recipe.zoom or recipe.crop:
        seen = moved(seen, recipe, random)
    if recipe.flip and random.random() < 0.5:
        seen = seen[:, ::-1]
    if recipe.blur:
        blur = ImageFilter.GaussianBlur(random.uniform(0, recipe.blur))
        seen = np.asarray(Image.fromarray(seen).filter(blur))
    if recipe.brightness:
        brighter = random.uniform(-recipe.brightness, recipe.brightness) * 255
        richer = 1 + random.uniform(-recipe.brightness, recipe.brightness)
        values = (seen.astype(np.float32) - 128) * richer + 128 + brighter
        seen = np.clip(values, 0, 255).astype(np.uint8)
    if recipe.mask and (width := int(random.integers(0, recipe.mask + 1))):
        edges = ((width, width), (width, width), (0, 0))
        seen = np.pad(seen[width:-width, width:-width], edges)
    return seen


def augmented(pixels: np.ndarray, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
    """All training images as one epoch sees them, uint8, (n, SIZE, SIZE, 3)."""
    return np.array([changed(picture, recipe, random) for picture in pixels])


def compiled(recipe: Recipe, classes: int, steps: int, weights: list[np.ndarray]) -> Any:
    """A new network, ready to be trained for `steps` batches an epoch."""
    import keras

    built = network.build(classes, "mixed_bfloat16")
    if recipe.dropout:
        *others, last = built.layers
        signal = built.inputs[0]
        for layer in others:
            signal = layer(signal)
        built = keras.Model(built.inputs, last(keras.layers.Dropout(recipe.dropout)(signal)))
    if weights:
        built.set_weights(weights)
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100,
            (recipe.epochs - recipe.warmup) * steps,
            warmup_target=recipe.learning_rate,
            warmup_steps=recipe.warmup * steps,
        )
    options: dict[str, Any] = {"learning_rate": rate}
    if recipe.weight_decay:
        options["weight_decay"] = recipe.weight_decay
    if recipe.averaged:
        options |= {"use_ema": True, "ema_momentum": recipe.averaged}
    built.compile(
        optimizer=keras.optimizers.get({"class_name": recipe.optimizer, "config": options}),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.smoothing),
    )
    return built


def trained(
    images: dataset.Images,
    recipe: Recipe,
    seed: int,
    validation: dataset.Images | None = None,
    weights: Sequence[np.ndarray] = (),
) -> Any:
    """A network that was trained on images whose pixels are in memory.

    Args:
        images: What it learns from.
        recipe: How.
        seed: Of its weights and of all that is random in training.
        validation: What early stopping watches.
        weights: What it begins with, if not at random.
    """
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    random, size = np.random.default_rng(seed), _BATCH
    steps = -(-len(images) // size)
    built = compiled(recipe, len(images.classes), steps, list(weights))
    best, waited = -1.0, 0
    for _ in range(recipe.epochs):
        order = random.permutation(len(images))
        pixels = augmented(images.pixels[order], recipe, random)
        labels = images.one_hot[order]
        for begin in range(0, len(images), size):
            x = pixels[begin : begin + size].astype(np.float32)
            y = labels[begin : begin + size]
            if recipe.mixup:
                shares = random.beta(recipe.mixup, recipe.mixup, len(x)).astype(np.float32)
                others = random.permutation(len(x))
                of_x, of_y = shares[:, None, None, None], shares[:, None]
                x, y = of_x * x + (1 - of_x) * x[others], of_y * y + (1 - of_y) * y[others]
            built.train_on_batch(x, y)
        if validation is not None:
            judged = network.probabilities(built, validation.pixels).argmax(axis=1)
            accuracy = float((judged == validation.labels).mean())
            best, waited = (accuracy, 0) if accuracy - 0.001 > best else (best, waited + 1)
            if waited == 8:
                break
    if recipe.averaged:
        built.optimizer.finalize_variable_values(built.trainable_variables)
    return built


@functools.cache
def pretrained() -> tuple[np.ndarray, ...]:
    """The weights of a network that was trained on phantoms of this project's own drawing."""
    classes = ("Covid", "Normal", "Viral Pneumonia")
    planned = [
        phantom.make_original(_PHANTOM_SEED, number, f"train/{classes[number % 3]}/{number}")
        for number in range(_PHANTOMS)
    ]
    pixels = np.array([_drawn(one) for one in planned])
    labels = np.arange(_PHANTOMS) % 3
    images = dataset.Images(pixels, labels, classes, None)
    return tuple(trained(images, Recipe(learning_rate=1e-3, epochs=10), 0).get_weights())


def _drawn(planned: phantom.Phantom) -> np.ndarray:
    return np.asarray(decode.resized(io.BytesIO(phantom.render(planned)), dataset.SIZE))


def probabilities(networks: Sequence[Any], pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """What networks say of images on average, float64, (n, classes)."""
    views = [pixels] + [
        augmented(pixels, Recipe(crop=recipe.crop), np.random.default_rng(number))
        for number in range(recipe.crops_judged)
    ]
    judged = [network.probabilities(one, view) for one in networks for view in views]
    return np.asarray(np.mean(judged, axis=0))


@functools.cache
def images_of_train() -> dataset.Images:
    """All images of train/, in memory."""
    return dataset.load(["train", "validation"]).unpacked(1000)


def team(
    images: dataset.Images, recipe: Recipe, seed: int, validation: dataset.Images | None = None
) -> list[Any]:
    """The networks of a recipe, most often one."""
    weights = pretrained() if recipe.pretrained else ()
    return [
        trained(images, recipe, seed + 1000 * number, validation, weights)
        for number in range(recipe.members)
    ]


def deal(recipe: Recipe, seed: int) -> dict[str, Any]:
    """One cross-validation: the `probabilities` of every image, (n, classes)."""
    network.start(1)
    images = images_of_train()
    pixels = np.array([normalised(picture, recipe) for picture in images.pixels])
    images = replace(images, pixels=pixels)
    labels, groups = images.table["class"].tolist(), images.table["group"].tolist()
    result = np.empty((len(images), len(images.classes)))
    for outside, inside in splits.folds(labels, groups, FOLDS, seed):
        learnt, validation = images.take(outside), None
        if recipe.stops:
            learnt, validation = judges.held_out(learnt, 1 / FOLDS, seed)
        networks = team(learnt, recipe, seed, validation)
        result[inside] = probabilities(networks, pixels[inside], recipe)
    return {"probabilities": result.tolist()}


def elsewhere(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What a network that learnt all of train/ calls the external images, and refuses of them.

    Returns:
        Of the images that are not Covid: `images`, `called` Covid, and of these `refused`, as
        unlike the training images.
    """
    network.start(1)
    images = images_of_train()
    outside = np.load(OUTSIDE)
    pixels = np.array([normalised(picture, recipe) for picture in images.pixels])
    networks = team(replace(images, pixels=pixels), recipe, seed)
    judge = novelty.fit(images.pixels, images.table["group"].to_numpy())
    seen = np.array([normalised(picture, recipe) for picture in outside])
    called = probabilities(networks, seen, recipe).argmax(axis=1) == images.classes.index("Covid")
    return {
        "images": len(called),
        "called": int(called.sum()),
        "refused": int((called & judge.refused(outside)).sum()),
    }


def work(task: tuple[str, str, int]) -> dict[str, Any]:
    """Does one part of the work in a process of its own, in the scratch project."""
    kind, name, seed = task
    return {"deal": deal, "elsewhere": elsewhere}[kind](RECIPES[name], seed)


def by_fold(found: dict[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and log loss in each fold of a deal, every radiograph once; float64, (FOLDS,)."""
    table, labels = images_of_train().table, images_of_train().labels
    values = np.array(found["probabilities"])
    of_class = np.maximum(values[np.arange(len(labels)), labels], _LEAST)
    first = ~table.duplicated("radiograph").to_numpy()
    dealt = splits.folds(table["class"].tolist(), table["group"].tolist(), FOLDS, seed)
    inside = [some[first[some]] for _, some in dealt]
    correct = values.argmax(axis=1) == labels
    return (
        np.array([correct[some].mean() for some in inside]),
        np.array([-np.log(of_class[some]).mean() for some in inside]),
    )


def thumbnails(seed: int) -> float:
    """The accuracy of a support vector machine on 16 x 16 pixels in the same folds of a deal."""
    images = images_of_train()
    table = images.table
    values = baselines.low_resolution(baselines.grey_values(images.pixels[:]), judges.THUMBNAIL)
    correct = np.empty(len(images), bool)
    for outside, inside in splits.folds(
        table["class"].tolist(), table["group"].tolist(), FOLDS, seed
    ):
        judged = judges.machine(values, images, outside, inside)
        correct[inside] = judged == images.labels[inside]
    return float(correct[~table.duplicated("radiograph")].mean())


def difference(ours: np.ndarray, theirs: np.ndarray, images: int) -> str:
    """Mean difference over folds and deals with its interval, by the corrected t test."""
    t = comparison.resampled_t((ours - theirs).ravel(), images / FOLDS, images * (1 - 1 / FOLDS))
    return f"{t['difference']:+.3f} [{t['low']:+.3f}, {t['high']:+.3f}]"


def print_table(names: Sequence[str], deals: Sequence[int], done: dict[Any, Any]) -> None:
    """Prints a row for each recipe."""
    images = len(images_of_train().table.drop_duplicates("radiograph"))
    crude = spread([thumbnails(seed) for seed in deals])
    scored = {
        name: np.array([by_fold(done["deal", name, seed], seed) for seed in deals])
        for name in names
    }
    outside = any(kind == "elsewhere" for kind, _, _ in done)
    titles = ["recipe", "accuracy", "log loss", "accuracy minus original's", "log loss minus it"]
    titles += ["others called Covid", "of these refused"] if outside else []
    titles += ["epochs"]
    print(f"{images} radiographs of train/, {FOLDS} folds, deals {list(deals)}.")
    print(f"16 x 16 pixels with a support vector machine: {crude}.\n")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name, values in scored.items():
        accuracy, loss = values[:, 0], values[:, 1]  # (deals, FOLDS) each
        first = next(iter(scored.values()))
        row = [name, spread(accuracy.mean(axis=1).tolist()), spread(loss.mean(axis=1).tolist())]
        same = name == next(iter(scored))
        row += ["" if same else difference(accuracy, first[:, 0], images)]
        row += ["" if same else difference(loss, first[:, 1], images)]
        if outside:
            found = done["elsewhere", name, 0]
            row += [f"{found['called']} of {found['images']:,}", str(found["refused"])]
        row += [f"{'at most ' * RECIPES[name].stops}{RECIPES[name].epochs * RECIPES[name].members}"]
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Tries and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--external", type=Path, metavar="ZIP")
    parser.add_argument("--deals", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in RECIPES]:
        parser.error(f"found {unknown[0]!r}, expected some of: {', '.join(RECIPES)}")
    names = list(dict.fromkeys(["original", *(chosen.names or RECIPES)]))
    archive = given_zip(chosen.archive, "data/archive")
    external = given_zip(chosen.external, "data/external")
    with tempfile.TemporaryDirectory() as scratch:
        kept = (chosen.keep or Path(scratch) / "kept").resolve()
        here = Path(scratch) / "project"
        here.mkdir()
        project(here, archive, {}, external)
        run("dvc", "repro", "preprocess", folder=here)
        os.chdir(here)  # as do the processes that train
        outside = external_set(images_of_train().classes)
        tasks = [("deal", name, seed) for seed in chosen.deals for name in names]
        shows = params.load_all().external.classes
        others = [some for name, some in outside.items() if shows.get(name, name) != COVID]
        if others:
            np.save(OUTSIDE, np.concatenate(others))
            tasks += [("elsewhere", name, 0) for name in names]
        done = {}
        with ProcessPoolExecutor(
            parallel.available_cores(), multiprocessing.get_context("spawn")
        ) as pool:
            waiting = {}
            for task in tasks:
                path = kept / f"{'-'.join(map(str, task))}.json"
                if path.exists():
                    done[task] = json.loads(path.read_text(encoding="utf-8"))
                else:
                    waiting[pool.submit(work, task)] = task, path
            for finished in tqdm(as_completed(waiting), "recipes", len(waiting), disable=None):
                task, path = waiting[finished]
                done[task] = finished.result()
                files.write_json(path, done[task])
    print_table(names, chosen.deals, done)


if __name__ == "__main__":
    main()
