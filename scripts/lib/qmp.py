"""QMP for tests and scripts: the qemu.qmp package behind blocking calls."""
import asyncio

from lib import packages

REQUIREMENTS = ["qemu.qmp==0.0.6"]


def install(report):
    """Makes the package importable. None, or one line that says what is missing. Needs the network once."""
    return packages.python(REQUIREMENTS, report)


class Qmp:
    """One client. `error.class_` of what `execute` raises is QMP's error class; events come by `event`."""

    def __init__(self, address, timeout=30):
        """address: a socket's path or (host, port)."""
        from qemu.qmp import EventListener, QMPClient

        self.loop = asyncio.new_event_loop()
        self.timeout = timeout
        self.client = QMPClient("test")
        self.events = EventListener()
        self.client.register_listener(self.events)
        self._do(self._connect(address))

    async def _connect(self, address):
        from qemu.qmp.protocol import ConnectError

        end = self.loop.time() + self.timeout
        while True:
            try:
                return await self.client.connect(address)
            except ConnectError:
                if self.loop.time() > end:
                    raise
                await asyncio.sleep(0.02)

    def _do(self, what):
        return self.loop.run_until_complete(asyncio.wait_for(what, self.timeout))

    def execute(self, command, **arguments):
        """Runs a command; underscores in argument names become dashes. Raises ExecuteError."""
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._do(self.client.execute(command, arguments))

    def hmp(self, line):
        return self.execute("human-monitor-command", command_line=line).replace("\r\n", "\n")

    def event(self, *names):
        """The next event of one of these names; others before it are dropped."""

        async def wait():
            while True:
                event = await self.events.get()
                if event["event"] in names:
                    return event

        return self._do(wait())

    def close(self):
        """Whether the server closed the connection first is no matter."""
        try:
            self._do(self.client.disconnect())
        except EOFError:
            pass
        self.loop.close()
