import json
import math
import os
import platform
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.common import files
from stages.common.errors import InputError
from stages.learning import network
from stages.learning.dataset import Images, Stored, load
from tests import made_processed

SUMMARY = """
rescaling (Rescaling)           (None, 200, 200, 3)          0
conv2d (Conv2D)                 (None, 198, 198, 8)        224
max_pooling2d (MaxPooling2D)    (None, 99, 99, 8)            0
conv2d_1 (Conv2D)               (None, 97, 97, 16)        1168
max_pooling2d_1 (MaxPooling2D)  (None, 48, 48, 16)           0
conv2d_2 (Conv2D)               (None, 46, 46, 32)        4640
max_pooling2d_2 (MaxPooling2D)  (None, 23, 23, 32)           0
flatten (Flatten)               (None, 16928)                0
dense (Dense)                   (None, 64)             1083456
dense_1 (Dense)                 (None, 3)                  195
"""
"""The table of the original's README, after the layer that scales the pixels."""

TRAIN_AND_SAVE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from tests.learning.test_network import train_and_save
train_and_save(Path(sys.argv[1]))
"""


@pytest.fixture
def _started() -> None:
    network.start(2)


started = pytest.mark.usefixtures("_started")


def some(
    count: int,
    use: str = "train",
    draw: made_processed.Draw = made_processed.class_in_the_centre,
    seed: int = 0,
) -> Images:
    return made_processed.images_of(made_processed.many({use: count}, draw, seed))


def train_and_save(target: Path) -> Any:
    network.start(2)
    images = some(11)
    trained, _, _ = network.fit(images, images, made_processed.training(seed=7, epochs=2), "train")
    network.save(trained, target)
    return trained


@pytest.mark.tensorflow
@started
def test_the_network_before_training_is_the_one_that_training_begins_with() -> None:
    images, settings = some(11), made_processed.training(seed=7, epochs=1, learning_rate=1e-12)
    before = network.untrained(3, settings)
    hardly, _, _ = network.fit(images, images, settings, "train")
    for one, other in zip(before.get_weights(), hardly.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-9)
    another = network.untrained(3, made_processed.training(seed=8))
    assert not np.allclose(before.get_weights()[0], another.get_weights()[0], atol=1e-3)
    exported = network.export(before)
    assert network.export(network.untrained(3, settings)) == exported


def test_the_recipe_original_is_the_originals() -> None:
    assert made_processed.training(recipe="original").model_dump() == {
        "recipe": "original",
        "validation": "original",
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup_epochs": 0,
        "label_smoothing": 0.0,
        "batch_size": 32,
        "epochs": 50,
        "monitor": "val_accuracy",
        "patience": 8,
        "min_delta": 0.001,
        "weights": "last",
        "seed": 0,
        "threads": 2,
        "device": "cpu",
        "precision": "float32",
    }


def test_importing_the_module_is_cheap() -> None:
    code = (
        "import sys, stages.learning.network; "
        "print({'tensorflow', 'keras', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.tensorflow
def test_a_start_leaves_out_what_can_still_be_imported_afterwards() -> None:
    code = (
        "import sys; from stages.learning import network; network.start(1); "
        "print({'matplotlib', 'sklearn'} & {*sys.modules}); "
        "import matplotlib.pyplot, sklearn.model_selection"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_what_a_start_prints_is_held_back_unless_it_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with network._quiet_start():
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == ""

    def fail() -> None:
        with network._quiet_start():
            os.write(2, b"the reason\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the reason\nafterwards\n"


STARTS = {
    "a processor without AVX": "os.abort()",
    "a broken installation": "raise ImportError('libtensorflow.so: no such file')",
    "a kill": "os.kill(os.getpid(), 9)",
}


def start_with_fakes(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Calls `network.start` with packages that print a line, then run `code`."""
    fake = f"""
import os, sys
from unittest.mock import MagicMock
os.write(2, b"compiled to use AVX instructions\\n")
{code}
sys.modules[__name__] = MagicMock()
"""
    for name in ("keras", "tensorflow"):
        (folder / f"{name}.py").write_text(fake)
    code = "import os; from stages.learning import network; network.start(1); os.write(2, b'on\\n')"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{folder}:{made_processed.REPOSITORY}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("code", STARTS.values(), ids=STARTS)
def test_what_tensorflow_prints_before_it_fails_is_shown(tmp_path: Path, code: str) -> None:
    done = start_with_fakes(tmp_path, code)
    assert done.returncode in (1, -signal.SIGABRT, -signal.SIGKILL)
    assert done.stderr.count("compiled to use AVX instructions\n") == 1
    assert ("libtensorflow.so: no such file" in done.stderr) == ("ImportError" in code)


def test_what_tensorflow_prints_is_not_shown_where_it_starts(tmp_path: Path) -> None:
    done = start_with_fakes(tmp_path, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "on\n")


@pytest.mark.tensorflow
@started
def test_the_network_is_the_original_layer_for_layer_and_name_for_name() -> None:
    built = network.build(3)
    rows = [
        f"{layer.name} ({type(layer).__name__})".ljust(32)
        + str((None, *layer.output.shape[1:])).ljust(22)
        + str(layer.count_params()).rjust(8)
        for layer in built.layers
    ]
    assert rows == SUMMARY.strip("\n").split("\n")
    assert built.count_params() == 1_089_683
    assert sum(int(np.prod(weights.shape)) for weights in built.trainable_weights) == 1_089_683
    assert built.non_trainable_weights == []
    assert built.input_shape == (None, 200, 200, 3)
    activations = [layer.activation.__name__ for layer in built.layers if "conv" in layer.name]
    assert activations == ["relu"] * 3
    assert [built.get_layer(f"dense{end}").activation.__name__ for end in ("", "_1")] == [
        "relu",
        "softmax",
    ]


@pytest.mark.tensorflow
@started
def test_it_scales_the_pixels_itself() -> None:
    image = np.full((1, 200, 200, 3), 255, np.uint8)
    assert np.array_equal(np.asarray(network.build(3).layers[0](image)), np.ones_like(image))


@pytest.mark.tensorflow
@started
def test_it_learns_as_the_original_did_and_partial_batches_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    compiled = []
    original = keras.Model.compile

    def watched(model: Any, **arguments: Any) -> None:
        compiled.append((model, arguments))
        original(model, **arguments)

    monkeypatch.setattr(keras.Model, "compile", watched)
    train, validation = some(12), some(11, seed=1)
    trained, history, kept = network.fit(
        train, validation, made_processed.training(epochs=3), "train"
    )
    assert not trained.compiled  # so that there is no trace of it in what is saved
    [(model, arguments)] = compiled
    assert type(model.optimizer).__name__ == "Adam"
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    assert type(arguments["loss"]).__name__ == "CategoricalCrossentropy"
    assert model.optimizer.iterations == 3 * 2  # 36 images: a batch of 32 and one of 4
    assert [list(record) for record in history] == [
        ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    ] * 3
    assert [record["epoch"] for record in history] == [1, 2, 3]
    for record in history:
        for name, images in (("accuracy", 36), ("val_accuracy", 33)):
            correct = record[name] * images
            assert correct == pytest.approx(round(correct), abs=1e-4)
    assert any(record["val_accuracy"] * 32 % 1 > 0.01 for record in history)
    assert 1 <= kept <= 3


@pytest.mark.tensorflow
@started
def test_smoothed_labels_keep_the_network_from_being_sure_and_are_not_in_the_loss() -> None:
    images = some(4)
    losses = {}
    for smoothing in (0.0, 0.3):
        settings = made_processed.training(
            recipe="tuned",
            **{"epochs": 12, "warmup_epochs": 1, "batch_size": 6, "learning_rate": 0.001},
            label_smoothing=smoothing,
        )
        trained, history, _ = network.fit(images, None, settings, "train")
        of_class = (network.probabilities(trained, images.pixels) * images.one_hot).sum(axis=1)
        losses[smoothing] = -np.log(of_class).mean()
        # of the last epoch, while it was still learning a little
        assert history[-1]["loss"] == pytest.approx(losses[smoothing], abs=0.05)
    assert losses[0.0] < 0.05
    assert losses[0.3] == pytest.approx(-np.log(1 - 0.3 + 0.3 / 3), abs=0.05)


@pytest.mark.tensorflow
@started
def test_without_an_improvement_it_stops_after_as_many_epochs_as_its_patience() -> None:
    images = some(3)
    settings = made_processed.training(
        optimizer="sgd", learning_rate=1e-12, batch_size=9, patience=2, weights="best"
    )
    _, history, kept = network.fit(images, images, settings, "train")
    assert (len(history), kept) == (3, 1)
    improving = settings.model_copy(update={"min_delta": 0.0, "weights": "last"})
    _, history, kept = network.fit(images, images, improving, "train")
    assert (len(history), kept) == (3, 3)


def stopped(
    history: Sequence[dict[str, float]], monitor: str, patience: int, min_delta: float
) -> tuple[int, int]:
    """The number of epochs and the best of them, by the rule of early stopping."""
    better = 1 if monitor == "val_accuracy" else -1
    best, best_epoch = float("-inf"), 0
    for epoch, record in enumerate(history, 1):
        if better * record[monitor] > best + min_delta:
            best, best_epoch = better * record[monitor], epoch
        elif epoch - best_epoch >= patience:
            return epoch, best_epoch
    return len(history), best_epoch


@pytest.mark.tensorflow
@started
def test_early_stopping_watches_what_it_is_told_to_and_by_how_much() -> None:
    train, validation = some(4), some(4, seed=1)
    settings = made_processed.training(
        learning_rate=0.001, batch_size=6, epochs=9, patience=9, min_delta=0.0
    )
    _, all_epochs, _ = network.fit(train, validation, settings, "train")
    results = []
    for monitor, min_delta in (("val_accuracy", 0.001), ("val_loss", 0.001), ("val_loss", 0.5)):
        changes = {"monitor": monitor, "min_delta": min_delta, "patience": 2}
        _, history, kept = network.fit(
            train, validation, settings.model_copy(update=changes), "train"
        )
        assert history == all_epochs[: len(history)]
        assert (len(history), kept) == stopped(all_epochs, monitor, 2, min_delta)
        results.append((len(history), kept))
    assert len(set(results)) == 3  # each of the settings matters here


@pytest.mark.tensorflow
@started
@pytest.mark.parametrize("weights", ["best", "last"])
def test_the_weights_are_those_of_the_epoch_that_it_says(weights: str) -> None:
    train, validation = some(4), some(4, seed=1)
    validation = replace(validation, labels=(validation.labels + 1) % 3)  # ever more wrong
    settings = made_processed.training(
        optimizer="rmsprop",
        learning_rate=0.0003,
        batch_size=6,
        epochs=5,
        monitor="val_loss",
        weights=weights,
    )
    trained, history, kept = network.fit(train, validation, settings, "train")
    losses = [record["val_loss"] for record in history]
    assert kept == (len(history) if weights == "last" else int(np.argmin(losses)) + 1)
    probabilities = network.probabilities(trained, validation.pixels)
    loss = -np.log(probabilities[np.arange(len(validation)), validation.labels]).mean()
    assert loss == pytest.approx(losses[kept - 1], rel=1e-4)
    assert min(abs(np.delete(losses, kept - 1) - loss)) > 0.001  # and of no other epoch


@pytest.mark.tensorflow
@started
def test_a_batch_larger_than_the_set_is_refused() -> None:
    images = some(3)
    refusal = r"^recipes\.holdout\.batch_size: found 10, expected at most 9"
    with pytest.raises(InputError, match=refusal):
        network.fit(images, images, made_processed.training(batch_size=10), "train")


@pytest.mark.tensorflow
@started
def test_a_training_whose_weights_are_lost_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build = network.build

    def lost(*arguments: Any) -> Any:
        built = build(*arguments)
        built.layers[1].set_weights([weights * np.nan for weights in built.layers[1].get_weights()])
        return built

    monkeypatch.setattr(network, "build", lost)
    images = some(3)
    settings = made_processed.training(learning_rate=0.5, batch_size=9)
    # the loss is still a number then
    refusal = r"^recipes\.holdout\.learning_rate: found 0\.5,.* after epoch 1;"
    with pytest.raises(InputError, match=refusal):
        network.fit(images, images, settings, "train")


@pytest.mark.tensorflow
@started
def test_a_training_whose_loss_is_lost_ends_at_once() -> None:
    callback = network._finite(network.build(3), made_processed.training())
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    with pytest.raises(InputError, match="after epoch 2;"):
        callback.on_epoch_end(1, {"loss": float("inf"), "val_loss": 2.0})


@pytest.mark.tensorflow
@started
def test_each_epoch_has_every_image_once_in_an_order_of_its_own_that_is_the_seeds() -> None:
    read: list[int] = []

    class Noted(Stored):
        def __getitem__(self, where: Any) -> np.ndarray:
            read.extend(self._positions[where].tolist())
            return super().__getitem__(where)

        def take(self, positions: np.ndarray, axis: Literal[0] = 0) -> Stored:
            del axis
            return Noted(self._read, self._positions[positions])

    images = some(9)
    noted = replace(images, pixels=Noted(images.pixels[:].__getitem__, np.arange(27)))
    orders = []
    for seed, recipe in ((5, "tuned"), (5, "original"), (6, "original")):
        read.clear()
        changes = {"warmup_epochs": 1} if recipe == "tuned" else {"patience": 9}
        settings = made_processed.training(
            recipe=recipe, seed=seed, epochs=3, batch_size=10, **changes
        )
        network.fit(noted, None if recipe == "tuned" else some(1), settings, "train")
        epochs = [read[start : start + 27] for start in (0, 27, 54)]
        assert len(read) == 81
        assert [sorted(epoch) for epoch in epochs] == [list(range(27))] * 3
        assert len({tuple(epoch) for epoch in [*epochs, range(27)]}) == 4
        orders.append(epochs)
    assert orders[0] == orders[1]
    assert orders[1] != orders[2]


@pytest.mark.tensorflow
@started
@pytest.mark.parametrize("count", [4, 5, 7])
def test_images_that_devices_can_not_share_are_filled_up_with_the_first(count: int) -> None:
    labels = np.arange(3 * count) % 3
    images = replace(some(count), labels=labels)
    plain = network._stream(images, 6, devices=6)
    filled = -(-3 * count // 6) * 6
    batches = [np.argmax(batch, axis=1) for _, batch in plain.as_numpy_iterator()]
    assert [len(batch) for batch in batches] == [6] * (filled // 6)
    assert np.concatenate(batches).tolist() == np.resize(labels, filled).tolist()
    for _epoch in range(2):
        shuffled = network._stream(images, 6, devices=6, seed=1)
        pixels = np.concatenate([batch for batch, _ in shuffled.as_numpy_iterator()])
        assert len(pixels) == filled
        assert len(np.unique(pixels[: 3 * count].reshape(3 * count, -1), axis=0)) == 3 * count
        assert np.array_equal(pixels[3 * count :], pixels[: filled - 3 * count])


# ------------------------------------------------------------------------------------- the recipes


@pytest.mark.tensorflow
@settings(max_examples=20, deadline=None)
@given(
    epochs=st.integers(1, 50),
    warmup=st.integers(0, 49),
    steps=st.integers(1, 40),
    rate=st.floats(1e-5, 1),
)
@example(epochs=40, warmup=3, steps=8, rate=0.0005)
@example(epochs=1, warmup=0, steps=1, rate=1)
def test_the_cosine_rises_by_the_step_and_falls_to_nothing(
    epochs: int, warmup: int, steps: int, rate: float
) -> None:
    network.start(2)
    warmup = min(warmup, epochs - 1)
    recipe = {"epochs": epochs, "warmup_epochs": warmup, "learning_rate": rate}
    training = made_processed.training(recipe="tuned", **recipe)
    schedule = network._optimizer(training, steps)._learning_rate

    def expected(step: int) -> float:
        if step < warmup * steps:
            return rate * step / (warmup * steps)
        done = (step - warmup * steps) / ((epochs - warmup) * steps)
        return rate * (1 + math.cos(math.pi * done)) / 2

    last = epochs * steps - 1
    for step in {0, 1, warmup * steps, warmup * steps + 1, last // 2, last, last + 1}:
        if step <= last + 1:
            assert float(schedule(step)) == pytest.approx(expected(step), abs=1e-5 * rate)
    assert float(schedule(warmup * steps)) == pytest.approx(rate)
    assert float(schedule(last + 1)) == pytest.approx(0, abs=1e-6 * rate)


@pytest.mark.tensorflow
@started
def test_without_validation_images_every_epoch_is_run_and_the_last_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    compiled = []
    original = keras.Model.compile

    def watched(model: Any, **arguments: Any) -> None:
        compiled.append(arguments["optimizer"])
        original(model, **arguments)

    monkeypatch.setattr(keras.Model, "compile", watched)
    images = some(5)
    training = made_processed.training(recipe="tuned", epochs=3, warmup_epochs=1, batch_size=6)
    trained, history, kept = network.fit(images, None, training, "train")
    assert [list(record) for record in history] == [["epoch", "accuracy", "loss"]] * 3
    assert kept == 3
    [optimizer] = compiled
    assert optimizer.iterations == 9
    schedule = optimizer._learning_rate
    assert float(schedule(3)) == pytest.approx(training.learning_rate)  # 3 steps in an epoch
    assert float(schedule(9)) == pytest.approx(0, abs=1e-9)
    again, once_more, _ = network.fit(images, None, training, "train")
    assert once_more == history
    for one, other in zip(trained.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.tensorflow
@started
def test_the_bits_do_not_depend_on_where_the_images_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = made_processed.many({"train": 6}, made_processed.class_in_the_centre)
    made_processed.write(tmp_path, pictures, {})
    monkeypatch.chdir(tmp_path)
    images = load(["train"])
    results = []
    changes = {"warmup_epochs": 1, "epochs": 2, "batch_size": 8, "learning_rate": 0.001}
    training = made_processed.training(recipe="tuned", **changes)
    for where in (
        made_processed.images_of(pictures),
        images,
        images.unpacked(1),
        images.unpacked(0),
    ):
        trained, history, _ = network.fit(where, None, training, "train")
        weights = b"".join(array.tobytes() for array in trained.get_weights())
        results.append((weights, history, network.probabilities(trained, where.pixels).tobytes()))
    assert results[1:] == results[:1] * 3


@pytest.mark.tensorflow
@started
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"^train\.device: found gpu, expected cpu, .* no GPU"):
        network.start(2, "gpu")


@pytest.mark.tensorflow
@started
def test_what_the_bits_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow

    told = network.computed_by(made_processed.training())
    assert list(told) == ["device", "processors", "precision", "tensorflow", "keras"]
    assert (told["device"], told["precision"]) == ("cpu", "float32")
    assert told["tensorflow"] == metadata.version("tensorflow")
    [level] = told["processors"]
    assert level in {"X86_V2", "X86_V3", "X86_V4", platform.machine()}
    experimental = tensorflow.config.experimental
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda kind: [kind, kind])
    monkeypatch.setattr(experimental, "get_device_details", lambda _: {"device_name": "Made 1"})
    told = network.computed_by(made_processed.training(device="gpu"))
    assert (told["device"], told["processors"]) == ("gpu", ["Made 1", "Made 1"])


TWO_DEVICES = """
import json, sys
import tensorflow
from stages.common.errors import InputError
from stages.learning import network
from tests import made_processed
from tests.learning.test_network import some
import numpy as np
[cpu] = tensorflow.config.list_physical_devices("CPU")
tensorflow.config.set_logical_device_configuration(
    cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2
)
network.start(2)
assert network._strategy("cpu").num_replicas_in_sync == 2
train, validation = some(4), some(2, seed=1)
settings = made_processed.training(epochs=4, batch_size=12, learning_rate=0.001)
results = [network.fit(train, validation, settings, "train")[1]]
# 11 images: the last batch has 3 of them, and the epoch's first image once more
small = settings.model_copy(update={"batch_size": 8})
results.append(network.fit(train.take(np.arange(11)), validation, small, "train")[1])
try:
    network.fit(train, validation, settings.model_copy(update={"batch_size": 9}), "train")
except InputError as error:
    results.append(str(error))
print(json.dumps(results))
"""


@pytest.mark.tensorflow
@started
def test_two_devices_give_the_losses_of_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        cwd=made_processed.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    two, of_eleven, refusal = json.loads(done.stdout.splitlines()[-1])
    train, validation = some(4), some(2, seed=1)
    # one batch in an epoch: for several devices Keras looks at a batch beforehand, and so deals the
    # orders that follow to them
    settings = made_processed.training(epochs=4, batch_size=12, learning_rate=0.001)
    _, one, _ = network.fit(train, validation, settings, "train")
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert len({record["loss"] for record in one}) == 4
    assert np.isfinite([record["loss"] for record in of_eleven]).all()
    assert refusal.startswith("recipes.holdout.batch_size: found 9, expected a multiple of 2, the ")


@pytest.mark.tensorflow
@started
def test_in_mixed_precision_only_the_training_is() -> None:
    images = some(8)
    settings = made_processed.training(epochs=2, batch_size=8, learning_rate=0.001)
    exact, mixed = (
        network.fit(images, images, settings.model_copy(update={"precision": precision}), "")
        for precision in ("float32", "mixed_bfloat16")
    )
    assert exact[1] != mixed[1]
    assert {layer.compute_dtype for layer in mixed[0].layers} == {"float32"}
    assert {str(array.dtype) for array in mixed[0].get_weights()} == {"float32"}
    built = network.build(3, "mixed_bfloat16")
    computed = [layer.compute_dtype for layer in built.layers]
    assert computed == ["bfloat16"] * 9 + ["float32"]


@pytest.mark.tensorflow
def test_the_same_bytes_in_another_process_on_one_core_with_other_keras_settings(
    tmp_path: Path,
) -> None:
    train_and_save(tmp_path / "here.keras")
    (tmp_path / "keras.json").write_text(
        '{"floatx": "float16", "epsilon": 0.1, "backend": "jax",'
        ' "image_data_format": "channels_first"}'
    )
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_SAVE, str(tmp_path / "there.keras")],
        env=os.environ | {"KERAS_HOME": str(tmp_path), "PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo"},
        cwd=made_processed.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    here, there = (files.sha256_of(tmp_path / f"{name}.keras") for name in ("here", "there"))
    assert here == there


@pytest.mark.tensorflow
def test_what_is_saved_loads_and_predicts_the_same_bit_for_bit(tmp_path: Path) -> None:
    trained = train_and_save(tmp_path / "models/classifier.keras")
    import keras

    loaded = keras.saving.load_model(tmp_path / "models/classifier.keras")
    pixels = some(5, seed=3).pixels
    before, after = (network.probabilities(model, pixels) for model in (trained, loaded))
    assert np.array_equal(before, after)
    assert os.listdir(tmp_path / "models") == ["classifier.keras"]
    with zipfile.ZipFile(tmp_path / "models/classifier.keras") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b'"date_saved": "1980-01-01@00:00:00"' in archive.read("metadata.json")
        assert b"shared_object_id" not in archive.read("config.json")


@pytest.mark.tensorflow
@started
def test_an_image_gets_the_same_bits_alone_and_among_others() -> None:
    model = network.build(3)
    pixels = some(13, draw=made_processed.noise).pixels
    together = network.probabilities(model, pixels)
    alone = np.concatenate([network.probabilities(model, pixels[n : n + 1]) for n in (0, 31, 38)])
    assert np.array_equal(together[[0, 31, 38]], alone)
    assert together.shape == (39, 3)
    assert together.dtype == np.float64
    assert abs(together.sum(axis=1) - 1).max() < 1e-15
