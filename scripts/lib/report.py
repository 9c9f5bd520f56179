"""Progress for people (on standard error), each step with its time."""
import contextlib
import sys
import threading
import time


class Failed(Exception):
    """A step did not do what it must; the text says what and what to do."""


class Report:
    """Prints steps. On a terminal the running step shows its seconds; elsewhere one line a step."""

    def __init__(self, stream=sys.stderr):
        self.stream = stream
        self.live = stream.isatty()
        self.start = time.monotonic()

    def say(self, text):
        print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def step(self, name):
        """Times the body. The body may change what is said at the end: `done.text = ...`."""
        done = _Step(name)
        begin = time.monotonic()
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(name, begin, stop), daemon=True)
        ticker.start()
        try:
            yield done
        except BaseException:
            self._end(stop, ticker, f"FAIL {name}", begin)
            raise
        self._end(stop, ticker, f"ok   {done.text}", begin)

    def _end(self, stop, ticker, text, begin):
        stop.set()
        ticker.join()
        clear = "\r\033[K" if self.live else ""
        self.say(f"{clear}{text} ({time.monotonic() - begin:.1f} s)")

    def _tick(self, name, begin, stop):
        if not self.live and not stop.wait(5):
            self.say(f"...  {name}")
        while not stop.wait(0.5 if self.live else 15):
            spent = int(time.monotonic() - begin)
            if self.live:
                self.stream.write(f"\r\033[K...  {name} {spent} s")
                self.stream.flush()
            else:
                self.say(f"...  {name}: {spent} s")


class _Step:
    def __init__(self, text):
        self.text = text
