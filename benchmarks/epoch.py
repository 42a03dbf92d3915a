"""One training epoch: the pipeline's beside plain `model.fit` on arrays in memory.

usage: python -m benchmarks.epoch, in a folder in which `preprocess` has run

Prints a JSON record: `pipeline` and `plain`, the seconds of one epoch (the least of some, taken
in turn in one process, with determinism on for both).
"""

import json
import time

from stages.common import params
from stages.learning import dataset, network
from stages.learning.settings import Training

SHORT, LONG, ROUNDS = 2, 8, 6


def main() -> None:
    """Measures and prints."""
    settings = params.load(Training)
    images, validation = (dataset.load([use]).unpacked(1000) for use in ("train", "validation"))
    network.start(settings.threads)

    import keras

    pixels, validation_pixels = images.pixels[:], validation.pixels[:]

    def pipeline(epochs: int) -> None:
        update = {"epochs": epochs, "patience": epochs}
        network.fit(images, validation, settings.model_copy(update=update), "bench")

    def plain(epochs: int) -> None:
        model = network.build(len(images.classes))
        model.compile(
            keras.optimizers.Adam(settings.learning_rate),
            "categorical_crossentropy",
            metrics=["accuracy"],
        )
        model.fit(
            pixels,
            images.one_hot,
            batch_size=settings.batch_size,
            epochs=epochs,
            validation_data=(validation_pixels, validation.one_hot),
            verbose=0,
        )

    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for name, train in (("pipeline", pipeline), ("plain", plain)):
            for epochs in (SHORT, LONG):
                begun = time.perf_counter()
                train(epochs)
                seconds.setdefault((name, epochs), []).append(time.perf_counter() - begun)
    least = {which: min(spent) for which, spent in seconds.items()}
    # the difference leaves out building and tracing
    print(
        json.dumps(
            {
                name: (least[name, LONG] - least[name, SHORT]) / (LONG - SHORT)
                for name in ("pipeline", "plain")
            }
        )
    )


if __name__ == "__main__":
    main()
