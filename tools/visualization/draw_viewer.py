"""Write the picture of the viewer in the README: the model of the package on a phantom, in headless Chromium.

    python tools/visualization/draw_viewer.py --out .github/viewer.png

Needs the extras ``test`` and ``viewer``, and Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from ctvlm.engine import run_tool
from ctvlm.utils import CTVLMError, MissingPackageError, atomic_write, check_out_file

SHAPE = (96, 224, 224)
SOFTWARE_GL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3, help="seed of the phantom")
    parser.add_argument("--step", type=int, default=2, help="step to select, counted from 1")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 760), metavar=("W", "H"), help="pixels")
    parser.add_argument("--out", type=Path, default=Path(".github/viewer.png"), help="PNG file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def picture(page: Path, step: int, size: tuple[int, int]) -> bytes:
    """PNG of a page with one step selected.

    Raises:
        CTVLMError: Playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPackageError("the picture needs Playwright: pip install 'ctvlm[test]'") from None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise CTVLMError("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SOFTWARE_GL)
        tab = browser.new_context(viewport=dict(width=size[0], height=size[1]), bypass_csp=True).new_page()
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-ready]", state="attached", timeout=180_000)
        tab.evaluate("n => document.querySelectorAll('.step')[n].click()", step)
        tab.wait_for_timeout(3000)
        return tab.screenshot(timeout=180_000)


def main(argv: list[str] | None = None) -> int:
    """Write the picture and return the exit code."""
    args = parse_args(argv)
    from PIL import Image

    from ctvlm.apis import PageBuilder
    from ctvlm.phantom.case import generate_case
    from ctvlm.visualization.viewer import page_html
    from ctvlm.volume import CTVolume

    check_out_file("--out", args.out)
    case = generate_case(args.seed, SHAPE)
    content = PageBuilder()(CTVolume(case.volume, case.affine))
    if not 1 <= args.step <= len(content.steps):
        raise CTVLMError(f"--step {args.step}: expected 1 to {len(content.steps)}, the generated steps")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(page_html(content), encoding="utf-8")
        png = picture(page, args.step - 1, tuple(args.size))
    # 256 colours keep the file below 300 kB.
    with atomic_write(args.out) as part:
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(part, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
