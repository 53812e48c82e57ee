"""Screenshots of a report, made again by `python tests/screenshots.py REPORT FOLDER`.

Of the report of `make compare`: wide in the light, the explorer, and a phone in the dark.
"""

import io
import sys
from pathlib import Path

from browser import launched, opened
from PIL import Image

MOST = 200_000  # bytes of a picture
WIDE = {"viewport": {"width": 1080, "height": 1140}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
    "color_scheme": "dark",
}
SHOTS = {
    "report": (WIDE, "", "body"),
    "explorer": (WIDE, "#explorer:designed/delta/1/2", "#explorer"),
    "phone": (PHONE, "#explorer:trained/delta/1/4", "#explorer-said"),
}


def taken(report, folder):
    """Take every screenshot; their paths."""
    with launched() as browser:
        for name, (window, fragment, top) in SHOTS.items():
            with opened(browser, report, fragment=fragment, **window) as (page, faults):
                page.locator("#explorer-view .card").first.wait_for()
                if name == "explorer":
                    page.click("#cue-apart")
                page.locator(top).evaluate(
                    "(node) => node.scrollIntoView({block: 'start', behavior: 'instant'})"
                )
                image = Image.open(io.BytesIO(page.screenshot()))
                assert faults == [], faults
            path = folder / f"{name}.png"
            image.save(path, optimize=True)
            assert path.stat().st_size <= MOST
            yield path


if __name__ == "__main__":
    for path in taken(*map(Path, sys.argv[1:3])):
        sys.stdout.write(f"{path}\n")
