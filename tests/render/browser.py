"""Opens a page in Qt's Chromium without JavaScript, and says what it asked for and what is to be seen: PAGE COLOUR…

Run by `tests.render.test_in_a_browser` in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.update(
    QT_QPA_PLATFORM="offscreen",
    QTWEBENGINE_DISABLE_SANDBOX="1",
    QTWEBENGINE_CHROMIUM_FLAGS="--disable-gpu",
)

from PyQt6.QtCore import QTimer, QUrl  # type: ignore[import-not-found]
from PyQt6.QtWebEngineCore import (  # type: ignore[import-not-found]
    QWebEngineSettings,
    QWebEngineUrlRequestInterceptor,
)
from PyQt6.QtWebEngineWidgets import QWebEngineView  # type: ignore[import-not-found]
from PyQt6.QtWidgets import QApplication  # type: ignore[import-not-found]

LIMIT_MS, PAINTED_MS = 60_000, 2_000


class Requests(QWebEngineUrlRequestInterceptor):  # type: ignore[misc]
    """What the page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def interceptRequest(self, request: object) -> None:  # noqa: N802 (Qt calls it so)
        self.seen.append(request.requestUrl().toString())  # type: ignore[attr-defined]


def main(page: str, colours: list[str]) -> int:
    """0 when it was painted."""
    application = QApplication(sys.argv[:1])
    requests, view = Requests(), QWebEngineView()
    view.page().profile().setUrlRequestInterceptor(requests)
    view.settings().setAttribute(QWebEngineSettings.WebAttribute.JavascriptEnabled, False)
    view.resize(1000, 1500)
    view.show()

    def look() -> None:
        image = view.grab().toImage()
        seen = [
            image.pixelColor(x, y).name()
            for y in range(0, image.height(), 2)
            for x in range(0, image.width(), 2)
        ]
        counts = {colour: seen.count(colour) for colour in colours}
        sys.stdout.write(json.dumps({"requests": requests.seen, "dots": counts}))
        application.quit()

    view.loadFinished.connect(lambda _ok: QTimer.singleShot(PAINTED_MS, look))
    view.load(QUrl.fromLocalFile(str(Path(page).resolve())))
    QTimer.singleShot(LIMIT_MS, lambda: application.exit(1))
    return int(application.exec())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
