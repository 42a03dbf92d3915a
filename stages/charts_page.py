"""Writes the page that `dvc plots` fills with its charts, so that they need no network.

usage: python -m stages.charts_page TARGET

DVC's own page loads the scripts that draw the charts from another host. TARGET becomes
`.dvc/plots/page.html` with these scripts in it, 0.9 MB. `make setup` writes it and tells DVC of it
in `.dvc/config.local`.
"""

import argparse
from pathlib import Path

import vl_convert

from stages.common import files

TEMPLATE = Path(".dvc/plots/page.html")


def page(template: str) -> str:
    """The template with Vega, Vega-Lite and Vega-Embed in the place of DVC's `{scripts}`."""
    scripts = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
    return template.replace("{scripts}", f"<script>{scripts}</script>")


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.charts_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", type=Path, metavar="TARGET")
    target = parser.parse_args().target
    files.write_text(target, page(TEMPLATE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
