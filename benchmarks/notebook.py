"""The same job as a plain Keras notebook does it: what the pipeline is measured against.

usage: python -m benchmarks.notebook FOLDER --epochs N

Image files of any size are decoded again in every epoch (nearest neighbour, 200 x 200), one
process, the last weights kept, the test images as validation images. Prints a JSON record:
`seconds_per_epoch` and `val_accuracy`.
"""

import argparse
import json
import os
import time
from pathlib import Path


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    chosen = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    keras.utils.set_random_seed(0)
    generator = ImageDataGenerator(rescale=1 / 255)
    train, test = (
        generator.flow_from_directory(
            chosen.folder / split, target_size=(200, 200), shuffle=split == "train"
        )
        for split in ("train", "test")
    )
    layers = keras.layers
    network = keras.Sequential([layers.Input((200, 200, 3))])
    for channels in (8, 16, 32):
        network.add(layers.Conv2D(channels, 3, activation="relu"))
        network.add(layers.MaxPooling2D(2))
    network.add(layers.Flatten())
    network.add(layers.Dense(64, activation="relu"))
    network.add(layers.Dense(train.num_classes, activation="softmax"))
    network.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", metrics=["accuracy"])
    begun = time.perf_counter()
    log = network.fit(train, epochs=chosen.epochs, validation_data=test, verbose=0).history
    seconds = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "seconds_per_epoch": seconds / chosen.epochs,
                "val_accuracy": log["val_accuracy"][-1],
            }
        )
    )


if __name__ == "__main__":
    main()
