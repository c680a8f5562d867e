"""A headless Chromium, driven through chromedriver's own HTTP (W3C WebDriver): it needs no package and no download."""

import base64
import contextlib
import http.client
import json
import re
import shutil
import subprocess

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "needs Debian's chromium and chromium-driver"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's identity, fixed by the standard
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which needs rights that a container has not
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
)


class Browser:
    """One window of one session."""

    def __init__(self, port, downloads):
        self._port = port
        options = {
            "binary": CHROMIUM,
            "args": list(_FLAGS),
            "prefs": {"download.default_directory": str(downloads)},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = ""
        self._session = "/session/" + self._ask("POST", "/session", capabilities={"alwaysMatch": wanted})["sessionId"]

    def _ask(self, method, path, **said):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, self._session + path, json.dumps(said) if method == "POST" else None)
            value = json.loads(connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
        return value

    def open(self, url):
        self._ask("POST", "/url", url=url)

    def run(self, script, *args):
        """What the script returns."""
        return self._ask("POST", "/execute/sync", script=script, args=list(args))

    def _element(self, selector):
        return self._ask("POST", "/element", using="css selector", value=selector)[_ELEMENT]

    def click(self, selector):
        self._ask("POST", f"/element/{self._element(selector)}/click")

    def type(self, selector, text):
        """Keys, or the paths of files, one a line, for a file input."""
        self._ask("POST", f"/element/{self._element(selector)}/value", text=text)

    def resize(self, width, height):
        self._ask("POST", "/window/rect", width=width, height=height)

    def devtools(self, command, **parameters):
        return self._ask("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def dark(self, on):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def complaints(self):
        """What the console has said since it was last asked: errors of scripts, refusals of the security policy."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", type="browser")]

    def close(self):
        self._ask("DELETE", "")


@contextlib.contextmanager
def browser(downloads):
    """A window that is gone at the end."""
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        try:
            line = next(line for line in driver.stdout if "successfully on port" in line)
            window = Browser(int(re.search(r"port (\d+)", line)[1]), downloads)
            try:
                yield window
            finally:
                window.close()
        finally:
            driver.terminate()
