"""Debian's Chromium without a window, spoken to over its DevTools pipe; for tests of pages.

`HASHBEAM_CHROMIUM` names the browser, which must then exist. Without it Debian's is taken where it
is installed, and the tests are skipped where it is not.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "HASHBEAM_CHROMIUM"
END_S = 10.0  # for the browser to end by itself
WAIT_S = 60.0  # for an answer: a busy machine starts a browser slowly


def find_chromium() -> str:
    """Path of the browser; skips the test where there is none and nobody asks for one."""
    asked = os.environ.get(VARIABLE, "")
    found = shutil.which(asked or "chromium")
    if not found and asked:
        pytest.fail(f"{VARIABLE}={asked} is no program (Debian: apt-get install chromium)")
    if not found:
        pytest.skip(f"no chromium here; set {VARIABLE}, or apt-get install chromium")
    return found


class Chromium:
    """One browser with one page, and a profile of its own that lasts as long as the object.

    Its own processes are ended by their handle. The sandbox is off, as it must be for root in a
    container: only pages that the tests have written are opened.
    """

    def __init__(self, folder: Path) -> None:
        program = find_chromium()
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        read_end, self._send = os.pipe()
        self._receive, write_end = os.pipe()
        # The browser reads its descriptor 3 and writes its 4; out of the way of both first.
        inputs = fcntl.fcntl(read_end, fcntl.F_DUPFD_CLOEXEC, 10)
        outputs = fcntl.fcntl(write_end, fcntl.F_DUPFD_CLOEXEC, 10)

        def place() -> None:
            os.dup2(inputs, 3)
            os.dup2(outputs, 4)

        self._process = subprocess.Popen(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--autoplay-policy=no-user-gesture-required",
                "--remote-debugging-pipe",
                "--window-size=1280,1000",
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            close_fds=False,
            preexec_fn=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (read_end, write_end, inputs, outputs):
            os.close(end)
        self._last = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self._call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads)
        )

    def close(self) -> None:
        """Ends the browser."""
        try:
            os.write(self._send, b'{"id": 0, "method": "Browser.close"}\0')
            self._process.wait(END_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._send, self._receive):
            os.close(end)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command to the page; its result."""
        return self._call(method, session=self._session, **parameters)

    def _call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._send, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + WAIT_S
        while b"\0" not in self._rest:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self._receive], [], [], left)[0]
            assert ready, f"the browser says nothing for {WAIT_S} s"
            data = os.read(self._receive, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message

    def open(self, page: Path) -> None:
        """Opens a file and waits until it is loaded."""
        self._go("Page.navigate", url=page.as_uri())

    def reload(self) -> None:
        """The same page again."""
        self._go("Page.reload")

    def _go(self, method: str, **parameters: Any) -> None:
        self.events.clear()
        self.call(method, **parameters)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The value of an expression in the page, waited for; an error in it fails the test."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true: some events of a page come a little later."""
        end = time.monotonic() + WAIT_S
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def press(self, key: str, text: str = "") -> None:
        """A key, pressed and let go, as from a keyboard."""
        codes = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40}
        codes |= {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
        text = text or ("\r" if key == "Enter" else key if len(key) == 1 else "")
        code = codes.get(key, ord(key.upper()) if len(key) == 1 and key.isalnum() else 0)
        known = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def click(self, selector: str) -> None:
        """A click with the mouse in the middle of the first such element."""
        place = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            " one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = "none" if kind == "mouseMoved" else "left"
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button=button,
                clickCount=1,
            )

    def downloaded(self, name: str) -> bytes:
        """Content of a file that the page has offered, once it is there."""
        path, end = self.downloads / name, time.monotonic() + WAIT_S
        while not path.is_file():
            assert time.monotonic() < end, f"{name} was not downloaded"
            time.sleep(0.05)
        data = path.read_bytes()
        path.unlink()
        return data

    def addresses(self) -> list[str]:
        """What the page has asked for since it was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Errors of scripts and of the security policy since the page was opened."""
        self.run("1")
        out = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                out.append(str(event["params"]["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded":
                entry = event["params"]["entry"]
                if entry["level"] == "error":
                    out.append(entry["text"])
        return out
