"""One image, predicted with TensorFlow and the .keras file: what `predict` is held against.

usage: python -m benchmarks.with_tensorflow IMAGE, in a folder in which `train` has run
"""

import sys
from pathlib import Path

import numpy as np

from stages.intake import decode
from stages.learning import network
from stages.learning.dataset import SIZE


def main() -> None:
    """Predicts and prints."""
    import keras

    trained = keras.saving.load_model(network.MODEL)
    pixels = np.asarray(decode.resized(Path(sys.argv[1]), SIZE))[None]
    print(trained.predict(pixels, verbose=0)[0])


if __name__ == "__main__":
    main()
