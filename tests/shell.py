"""An interactive bash on a terminal of its own, in which a test types."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Mapping

CTRL_C = "\x03"
_PROMPT = re.compile(r"<exit (\d+)>")


class Shell:
    """Reads what is printed until the next prompt, which shows the exit code."""

    def __init__(self, folder: os.PathLike[str], environment: Mapping[str, str]):
        self._terminal, other_end = os.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=folder,
            env={**environment, "PS1": "<exit $?>", "HISTFILE": "/dev/null"},
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
        )
        os.close(other_end)
        self._unread = ""
        self.wait_for(_PROMPT)
        self.type("stty -echo")

    def type(self, line: str) -> tuple[int, str]:
        """Types a line; returns the exit code and what was printed."""
        self.send(f"{line}\n")
        return self.prompt()

    def prompt(self) -> tuple[int, str]:
        """Waits for the prompt; returns the exit code and what was printed before it."""
        text = self.wait_for(_PROMPT)
        return int(_PROMPT.search(text)[1]), _PROMPT.sub("", text)

    def send(self, keys: str) -> None:
        """Types without waiting."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, pattern: str | re.Pattern[str], seconds: float = 600) -> str:
        """Returns what is printed up to the end of a pattern."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self._unread)):
            ready, _, _ = select.select([self._terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern} was not printed, but {self._unread}"
            self._unread += os.read(self._terminal, 2**16).decode(errors="replace")
        text, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return text.replace("\r\n", "\n")

    def close(self) -> None:
        """Ends the shell."""
        os.close(self._terminal)  # hangs up
        self._process.wait(60)
