"""The network of the original system: built, trained and saved, the same bits each time.

TensorFlow is imported inside the functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.common import files
from stages.common.errors import InputError
from stages.learning.dataset import SIZE
from stages.learning.settings import Training

if TYPE_CHECKING:
    from stages.learning.dataset import Images, Pixels

MODEL = Path("models/classifier.keras")

LAST_CONVOLUTION = "conv2d_2"
_PREDICTION_BATCH = 32
_LOSS = "cross_entropy"  # with the labels as they are, whether or not they are smoothed to train
_DATE = "1980-01-01@00:00:00"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_WELL = b"\0started"
_HOLD_BACK = f"""
import sys
text = sys.stdin.buffer.read()
text.endswith({_WELL!r}) or sys.stderr.buffer.write(text)
"""


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's start writes straight to file descriptor 2.

    If the block raises, or the process is aborted in it (by a TensorFlow that wants a processor
    with AVX, say), that is shown after all: a process of its own holds it, and shows it unless it
    hears at the end that the start went well.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    command = [sys.executable, "-I", "-S", "-c", _HOLD_BACK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdin is not None
        os.dup2(holder.stdin.fileno(), 2)
        try:
            yield
            os.write(2, _WELL)
        finally:
            os.dup2(shown, 2)
            os.close(shown)


@contextlib.contextmanager
def _without_extras() -> Iterator[None]:
    """Lets Keras be imported without scikit-learn and matplotlib, in two thirds of the time.

    It takes them where they are installed, for its wrappers and galleries, and does without them
    where they are not.
    """
    modules: dict[str, Any] = sys.modules
    extras = {"sklearn", "matplotlib"} - modules.keys()
    modules.update(dict.fromkeys(extras))  # None: there is no such module
    try:
        yield
    finally:
        for name in extras:
            del modules[name]


def start(threads: int, device: str = "cpu") -> Any:
    """Imports TensorFlow, set up for runs that repeat to the bit; returns the module.

    The bits depend on the number of threads inside an operation and on oneDNN, so both are
    fixed; they also depend on the processor's instruction set, which can't be.

    Args:
        threads: Inside an operation, on the CPU.
        device: "cpu", or "gpu" for all GPUs of this machine.

    Raises:
        InputError: There is no GPU.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _quiet_start(), _without_extras():
        import keras
        import tensorflow

        if tensorflow.config.threading.get_intra_op_parallelism_threads() != threads:
            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.config.experimental.enable_op_determinism()
        # else a GPU computes float32 with fewer places
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)
        found = tensorflow.config.list_logical_devices(device.upper())
    if not found:
        raise InputError(
            "train.device: found gpu, expected cpu, since TensorFlow finds no GPU on this machine. "
            "Set it to cpu in params.yaml, or see what docs/development.md says of GPUs."
        )
    # a network for each fold is traced for each fold: TensorFlow remarks on that from the fifth on
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # the user's ~/.keras/keras.json may say otherwise
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return tensorflow


def computed_by(settings: Training) -> dict[str, Any]:
    """What the bits depend on beside code, data and parameters; `start` has been called.

    Returns:
        `device` and `precision`; `processors`, the names of the GPUs or the level of the CPU's
        instruction set, whose model would differ between machines that give the same bits; the
        versions of `tensorflow` and `keras`.
    """
    import keras
    import tensorflow

    config = tensorflow.config
    names = [
        config.experimental.get_device_details(gpu).get("device_name", "unknown")
        for gpu in config.list_physical_devices("GPU")
    ]
    if settings.device == "cpu":
        features = np.show_config(mode="dicts")["SIMD Extensions"]
        levels = [name for name in features["baseline"] + features["found"] if "_V" in name]
        names = [max(levels, default=platform.machine())]
    return {
        "device": settings.device,
        "processors": names,
        "precision": settings.precision,
        "tensorflow": tensorflow.__version__,
        "keras": keras.__version__,
    }


def build(classes: int, precision: str = "float32") -> Any:
    """The original's network, with its layer names; 1,089,683 parameters for three classes.

    Takes (n, SIZE, SIZE, 3), 0 to 255, and scales it itself, so that nobody can forget to;
    gives probabilities, float32, (n, classes). Its weights are float32 in either precision.
    """
    import keras

    keras.config.set_dtype_policy(precision)  # of the layers that follow
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3), name="image"),
            layers.Rescaling(1 / 255, name="rescaling"),
            layers.Conv2D(8, 3, activation="relu", name="conv2d"),
            layers.MaxPooling2D(2, name="max_pooling2d"),
            layers.Conv2D(16, 3, activation="relu", name="conv2d_1"),
            layers.MaxPooling2D(2, name="max_pooling2d_1"),
            layers.Conv2D(32, 3, activation="relu", name=LAST_CONVOLUTION),
            layers.MaxPooling2D(2, name="max_pooling2d_2"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(classes, activation="softmax", dtype="float32", name="dense_1"),
        ],
        name="classifier",
    )


def untrained(classes: int, settings: Training) -> Any:
    """The network that `fit` begins with, before it has learned; `start` has been called."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    return build(classes, settings.precision)


def fit(
    train: Images, validation: Images | None, settings: Training, label: str
) -> tuple[Any, list[dict[str, float]], int]:
    """Trains a new network by a recipe; `start` has been called.

    Args:
        train: What it learns from, in another order in each epoch. Partial batches count.
        validation: What early stopping watches; without it every epoch is run.
        settings: The recipe, the seed and what it is trained on.
        label: Stands before the progress bar.

    Returns:
        The network, in float32 whichever the precision; a record per epoch (epoch from 1, accuracy,
        loss, and of the validation images val_accuracy, val_loss); and the number of the epoch
        whose weights the network has.

    Raises:
        InputError: A batch is larger than the training set, or can't be divided among the GPUs, or
            the loss or a weight is no longer a number.
    """
    import keras
    from tqdm import tqdm
    from tqdm.keras import TqdmCallback

    if settings.batch_size > len(train):
        raise InputError(
            f"recipes.{settings.recipe}.batch_size: found {settings.batch_size}, expected at most "
            f"{len(train)}, the number of training images. Lower it in params.yaml."
        )
    strategy = _strategy(settings.device)
    devices = strategy.num_replicas_in_sync
    if settings.batch_size % devices:
        raise InputError(
            f"recipes.{settings.recipe}.batch_size: found {settings.batch_size}, expected a "
            f"multiple of {devices}, the number of GPUs, which get equal parts of each batch. "
            "Change it in params.yaml."
        )
    keras.utils.clear_session()  # else the networks of a cross-validation pile up in memory
    with strategy.scope():
        network = untrained(len(train.classes), settings)
        network.compile(
            optimizer=_optimizer(settings, steps=-(-len(train) // settings.batch_size)),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
            metrics=["accuracy", keras.metrics.CategoricalCrossentropy(name=_LOSS)],
        )
    callbacks = [_finite(network, settings)]
    watched = stopping = None
    if validation is not None:
        watched = _stream(validation, settings.batch_size, devices)
        stopping = keras.callbacks.EarlyStopping(
            monitor=settings.monitor,
            mode=settings.mode,
            patience=settings.patience,
            min_delta=settings.min_delta,
            restore_best_weights=settings.weights == "best",
        )
        callbacks.append(stopping)
    # on terminals only
    callbacks.append(TqdmCallback(verbose=0, tqdm_class=tqdm, desc=label, disable=None))
    log = network.fit(
        _stream(train, settings.batch_size, devices, settings.seed),
        epochs=settings.epochs,
        validation_data=watched,
        shuffle=False,  # it would be a remark: a stream has its order
        callbacks=callbacks,
        verbose=0,
    ).history
    names = {
        f"{prefix}{name}": log[f"{prefix}{key}"]
        for prefix in ("", "val_")
        for name, key in (("accuracy", "accuracy"), ("loss", _LOSS))
        if f"{prefix}{key}" in log
    }
    history = [
        {"epoch": epoch, **dict(zip(names, values, strict=True))}
        for epoch, values in enumerate(zip(*names.values(), strict=True), 1)
    ]
    kept = stopping.best_epoch + 1 if stopping and settings.weights == "best" else len(history)
    return _bare(network), history, kept


def _optimizer(settings: Training, steps: int) -> Any:
    """The recipe's optimizer, with its learning rate as a number or as a function of the step.

    Args:
        settings: Of these, the recipe.
        steps: How many there are in an epoch.
    """
    import keras

    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":  # Loshchilov and Hutter 2017, without restarts
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=settings.learning_rate,
            warmup_steps=settings.warmup_epochs * steps,
            decay_steps=(settings.epochs - settings.warmup_epochs) * steps,
        )
    config = {"learning_rate": rate}
    return keras.optimizers.get({"class_name": settings.optimizer, "config": config})


def _strategy(device: str) -> Any:
    """How TensorFlow uses the devices of a kind, "cpu" or "gpu": several share every batch.

    A CPU is one device, unless TensorFlow was told to make two of it.
    """
    import tensorflow

    devices = tensorflow.config.list_logical_devices(device.upper())
    if len(devices) == 1:
        return tensorflow.distribute.get_strategy()
    return tensorflow.distribute.MirroredStrategy([each.name for each in devices])


def _stream(images: Images, batch_size: int, devices: int, seed: int | None = None) -> Any:
    """A tf.data.Dataset of batches; the next one is read ahead.

    With a seed, every epoch has an order of its own, an exact shuffle of all images; without, they
    come as they are. Several devices get equal parts of every batch, since TensorFlow takes the
    mean of the devices' means: images that can't be divided are filled up with the first ones.
    """
    import tensorflow

    pixels, labels, count = images.pixels, images.one_hot, len(images)
    filled_up = np.arange(-(-count // devices) * devices) % count

    def batch(chosen: Any) -> Any:
        found = tensorflow.numpy_function(pixels.__getitem__, [chosen], np.uint8)
        found.set_shape((None, SIZE, SIZE, 3))
        return found, tensorflow.gather(labels, chosen)

    order = tensorflow.data.Dataset.range(count)
    if seed is not None:
        order = order.shuffle(count, seed, reshuffle_each_iteration=True)
    every = order.batch(count).map(lambda epoch: tensorflow.gather(epoch, filled_up))
    return every.unbatch().batch(batch_size).map(batch).prefetch(1)


def _finite(network: Any, settings: Training) -> Any:
    """A Keras callback that ends a training whose loss or weights become NaN or infinite.

    The weights too, because ReLU and pooling turn what is no number into 0: a network whose
    convolutions are lost still has a loss.
    """
    import keras

    def check(epoch: int, logs: dict[str, float]) -> None:
        values = [*logs.values(), *network.get_weights()]
        if not all(np.isfinite(value).all() for value in values):
            raise InputError(
                f"recipes.{settings.recipe}.learning_rate: found {settings.learning_rate}, with "
                f"which the loss or the weights were no longer numbers after epoch {epoch + 1}; "
                "expected a lower one. Lower it in params.yaml."
            )

    return keras.callbacks.LambdaCallback(on_epoch_end=check)


def probabilities(network: Any, pixels: Pixels) -> np.ndarray:
    """float64, (n, classes): the probabilities of uint8 images (n, SIZE, SIZE, 3).

    An image gets the same bits alone and among others: the bits depend on the size of a batch,
    not on the place in it, so the last batch is filled up.
    """
    result = np.empty((len(pixels), network.output_shape[-1]), np.float64)
    for start in range(0, len(pixels), _PREDICTION_BATCH):
        part = pixels[start : start + _PREDICTION_BATCH]
        batch = np.zeros((_PREDICTION_BATCH, *part.shape[1:]), np.uint8)
        batch[: len(part)] = part
        result[start : start + len(part)] = network.predict_on_batch(batch)[: len(part)]
    return np.asarray(result / result.sum(axis=1, keepdims=True))  # to more places than float32 has


def _bare(network: Any) -> Any:
    """A new network with the same weights, in float32, without a trace of how they came about."""
    bare = build(network.output_shape[-1])
    bare.set_weights(network.get_weights())
    return bare


def save(network: Any, target: Path) -> None:
    """Saves as .keras, atomically and with the same bytes for the same network.

    Keras writes the date, the time of a zip member and running object numbers into the file;
    these are replaced or left out, and so is the optimizer's state, two thirds of the file.
    """

    def without_time_or_numbers(record: dict[str, Any]) -> dict[str, Any]:
        record.pop("shared_object_id", None)
        return record | {"date_saved": _DATE} if "date_saved" in record else record

    with files.atomic_write(target) as partial, tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.keras"
        _bare(network).save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(partial, "w") as normal:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name.endswith(".json"):
                    value = json.loads(content, object_hook=without_time_or_numbers)
                    content = json.dumps(value).encode()
                normal.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)


def export(network: Any) -> bytes:
    """The network as a LiteRT file, with the same bytes for the same network.

    float32, built-in operations only. Takes `image`, float32, (n, SIZE, SIZE, 3), 0 to 255; gives
    `probabilities`, (n, classes), and `activations`, those of the last convolution, (n, rows,
    columns, channels). `stages.learning.classifier` runs it.
    """
    import keras
    import tensorflow

    bare = _bare(network)
    outputs = {
        "probabilities": bare.outputs[0],
        "activations": bare.get_layer(LAST_CONVOLUTION).output,
    }
    # named, because Keras numbers what has no name, and the name is in the file
    both = keras.Model(bare.inputs[0], outputs, name="classifier")
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(both)
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(converter.convert())
