"""Parameters of `evaluate` and `external`."""

from pydantic import Field

from stages.common.params import Group, Seed


class Evaluate(Group):
    """How the intervals are drawn and how many images Grad-CAM shows."""

    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    gradcam_images: int = Field(ge=1, le=60)
    seed: Seed


class External(Group):
    """What the folders of the external set show: a class of the network each, or `other`."""

    classes: dict[str, str]
