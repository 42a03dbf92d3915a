"""One training epoch: the pipeline's beside plain `model.fit` on arrays in memory.

usage: python -m benchmarks.epoch, in a folder in which `preprocess` has run

Prints a JSON record: `pipeline` and `plain`, the seconds of one epoch (medians, taken in turn in
one process, with determinism on for both).
"""

import json
import statistics
import time

from stages.common import dataset, network, params

SHORT, LONG, ROUNDS = 2, 8, 5


def main() -> None:
    """Measures and prints."""
    settings = params.load().train
    images, validation = dataset.load(["train"]), dataset.load(["validation"])
    network.start(settings.seed, settings.threads)

    import keras

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
            images.pixels,
            images.one_hot,
            batch_size=settings.batch_size,
            epochs=epochs,
            validation_data=(validation.pixels, validation.one_hot),
            verbose=0,
        )

    seconds: dict[str, list[float]] = {"pipeline": [], "plain": []}
    for _ in range(ROUNDS):
        for name, train in (("pipeline", pipeline), ("plain", plain)):
            spent = []
            for epochs in (SHORT, LONG):  # the difference leaves out building and tracing
                begun = time.perf_counter()
                train(epochs)
                spent.append(time.perf_counter() - begun)
            seconds[name].append((spent[1] - spent[0]) / (LONG - SHORT))
    print(json.dumps({name: statistics.median(values) for name, values in seconds.items()}))


if __name__ == "__main__":
    main()
