import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.common import files
from stages.common.errors import InputError
from stages.learning import classifier, network
from tests import made_processed

CLASSES = 8
"""As many as the first convolution has filters, so that shapes alone don't tell the biases."""
EXPORT = """
import sys
from pathlib import Path
from stages.learning import network
network.start(2)
import keras
Path(sys.argv[2]).write_bytes(network.export(keras.saving.load_model(sys.argv[1])))
"""


def write_metadata(folder: Path, **changes: Any) -> None:
    facts = {
        "provenance": {"data": "made for a test", "protocol": "holdout"},
        "classes": [f"class {number}" for number in range(CLASSES)],
        "threads": 2,
        "sha256": files.sha256_of(folder / "classifier.tflite"),
    }
    files.write_json(folder / "classifier.json", facts | changes)


def load(folder: Path) -> classifier.Classifier:
    return classifier.load(folder / "classifier.tflite", folder / "classifier.json")


def noise(count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.array([made_processed.noise(generator, 0) for _ in range(count)])


@pytest.fixture(scope="module")
def built() -> Any:
    """A network with weights at random; the biases too, which begin as zeros."""
    network.start(2)
    model = network.build(CLASSES)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if layer.get_weights():
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, generator.normal(0, 0.1, bias.shape)])
    return model


@pytest.fixture(scope="module")
def folder(built: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as LiteRT and as Keras, with its metadata."""
    place: Path = tmp_path_factory.mktemp("models")
    (place / "classifier.tflite").write_bytes(network.export(built))
    network.save(built, place / "classifier.keras")
    write_metadata(place)
    return place


@pytest.mark.tensorflow
class TestExported:
    def test_the_probabilities_and_activations_are_those_of_keras(
        self, built: Any, folder: Path
    ) -> None:
        import keras

        pixels = noise(35)
        probabilities, activations = load(folder).judge(pixels)
        assert probabilities.shape == (35, CLASSES)
        assert probabilities.dtype == np.float64
        assert abs(probabilities.sum(axis=1) - 1).max() < 1e-15
        expected = network.probabilities(built, pixels)
        assert abs(probabilities - expected).max() < 1e-5
        assert expected.std(axis=0).min() > 1e-4  # they are not all alike
        convolution = built.get_layer(network.LAST_CONVOLUTION).output
        wanted = keras.Model(built.inputs[0], convolution)(pixels).numpy()
        assert activations.shape == wanted.shape == (35, 46, 46, 32)
        assert activations.dtype == np.float32
        assert activations == pytest.approx(wanted, abs=1e-4)
        assert activations.max() > 0.1
        assert np.array_equal(load(folder).probabilities(pixels), probabilities)

    def test_an_image_gets_the_same_bits_alone_and_among_others(self, folder: Path) -> None:
        pixels = noise(70)
        judge = load(folder).judge
        together = judge(pixels)
        for begin, end in ((0, 1), (31, 32), (69, 70), (3, 8), (5, 43), (1, 34)):
            some = judge(pixels[begin:end])
            for one, all_of_them in zip(some, together, strict=True):
                assert np.array_equal(one, all_of_them[begin:end])

    def test_several_threads_may_use_it_at_once(self, folder: Path) -> None:
        pixels = noise(24)
        shipped = load(folder)
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda n: shipped.judge(pixels[n : n + 1 + n % 3]), range(21)))
        together = shipped.judge(pixels)
        for number, part in enumerate(parts):
            for one, all_of_them in zip(part, together, strict=True):
                assert np.array_equal(one, all_of_them[number : number + 1 + number % 3])

    def test_the_head_has_the_weights_of_the_dense_layers(self, built: Any, folder: Path) -> None:
        head = load(folder).head
        for weights, name in zip(head, ("dense", "dense_1"), strict=True):
            for found, expected in zip(weights, built.get_layer(name).get_weights(), strict=True):
                assert found.dtype == np.float32
                assert np.array_equal(found, expected)

    def test_it_is_of_float32_and_of_built_in_operations_alone(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(folder / "classifier.tflite"))
        operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
        assert {"CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "SOFTMAX"} <= operations
        assert not [name for name in operations if name.startswith("Flex") or "QUANT" in name]
        tensors = interpreter.get_tensor_details()
        assert {tensor["dtype"] for tensor in tensors} == {np.float32, np.int32}
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["image"], "outputs": ["activations", "probabilities"]}
        }

    def test_the_same_bytes_in_another_process_and_nothing_printed(
        self, folder: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "there.tflite"
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, str(folder / "classifier.keras"), str(target)],
            env=os.environ | {"PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo"},
            cwd=made_processed.REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert target.read_bytes() == (folder / "classifier.tflite").read_bytes()

    def test_what_goes_with_it(self, folder: Path) -> None:
        shipped = load(folder)
        assert shipped.classes == [f"class {number}" for number in range(CLASSES)]
        assert shipped.threads == 2
        assert shipped.provenance == {"data": "made for a test", "protocol": "holdout"}

    def test_running_it_prints_nothing_and_imports_nothing_heavy(self, folder: Path) -> None:
        code = (
            "import sys, numpy as np; from pathlib import Path; "
            "from stages.learning import classifier; "
            f"loaded = classifier.load(*(Path({str(folder)!r}) / f'classifier.{{ending}}' "
            "for ending in ('tflite', 'json'))); "
            "loaded.judge(np.zeros((3, 200, 200, 3), np.uint8)); "
            "print({'tensorflow', 'keras', 'pandas', 'scipy', 'pydantic'} & {*sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=made_processed.REPOSITORY,
        )
        assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "a bit"])
def test_a_model_that_is_missing_or_damaged_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "classifier.tflite"
    path.write_bytes(b"TFL3" * 1000)
    write_metadata(tmp_path)
    if damage == "missing":
        path.unlink()
    else:
        content = {"empty": b"", "cut": b"TFL3" * 500, "a bit": b"TFL2" + b"TFL3" * 999}[damage]
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"classifier\.tflite.* Run `dvc repro .*train`\.") as told:
        load(tmp_path)
    if damage != "missing":
        assert f"found the SHA-256 {hashlib.sha256(content).hexdigest()}, exp" in str(told.value)


def test_metadata_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "classifier.tflite").write_bytes(b"TFL3")
    with pytest.raises(InputError, match=r"classifier\.json is not there.*dvc repro train"):
        load(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps({"classes": []})[:-1], "utf-8")
    with pytest.raises(InputError, match=r"classifier\.json is not the JSON that the stage `train"):
        load(tmp_path)
