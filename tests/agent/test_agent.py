#!/usr/bin/env python3
"""Tests the guest's agent on the host: over a pty, as the guest sees it, with the client of scripts/lib/agent.py.

Builds the agent with the host's compiler from guest/agent and the cJSON and libmd sources that scripts/build-guest
keeps. Runs alone: tests/agent/test_agent.py [unittest options].
"""

import base64
import hashlib
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tty
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "scripts", "lib"))
from agent import Agent, AgentError, AgentGone, AgentTimeout  # noqa: E402


def build(directory):
    """The agent as a program, with the address and undefined-behaviour checkers on."""
    build_guest = os.path.join(TOP, "scripts", "build-guest")
    output = os.path.join(directory, "agent")
    subprocess.run([build_guest, "--host-agent", output], check=True)
    return output


class AgentTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="minivmm-agent-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.program = build(cls.directory)
        cls.fw_cfg = os.path.join(cls.directory, "fw_cfg")
        raw = os.path.join(cls.fw_cfg, "opt/minivmm/blob")
        os.makedirs(raw)
        cls.blob = os.urandom(300_000)
        with open(os.path.join(raw, "raw"), "wb") as file:
            file.write(cls.blob)

    def setUp(self):
        master, slave = pty.openpty()
        tty.setraw(slave)
        self.process = subprocess.Popen([self.program, os.ttyname(slave), self.fw_cfg], stderr=subprocess.PIPE)
        # Kept open until the agent has it: a pty whose last slave closes hangs up.
        self.slave = slave
        self.agent = Agent(master)
        self.agent.wait_ready(10)
        self.tmp = tempfile.mkdtemp(dir=self.directory)

    def tearDown(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        complaint = self.process.stderr.read().decode()
        self.process.stderr.close()
        os.close(self.slave)
        self.agent.close()
        self.assertEqual(complaint, "")

    def path(self, name):
        return os.path.join(self.tmp, name)

    def send_raw(self, data):
        while data:
            data = data[os.write(self.agent._fd, data[:2048]) :]

    def next_object(self):
        return self.agent._read_object(time.monotonic() + 10)

    def assert_alive(self):
        self.assertEqual(self.agent.call("ping", 5)["version"], 1)

    # --- protocol --------------------------------------------------------------------------------------------------

    def test_says_ready_first(self):
        self.assertIn({"event": "ready", "version": 1}, self.agent.events)

    def test_id_of_any_type_comes_back(self):
        for number in (7, "text", [1, {"a": None}], None):
            self.send_raw(json.dumps({"id": number, "op": "ping"}).encode() + b"\n")
            self.assertEqual(self.next_object(), {"id": number, "version": 1})

    def test_two_requests_in_one_write_and_one_in_two(self):
        self.send_raw(b'{"id":1,"op":"ping"}\n{"id":2,"op":"pi')
        self.assertEqual(self.next_object()["id"], 1)
        time.sleep(0.05)
        self.send_raw(b'ng"}\r\n')
        self.assertEqual(self.next_object()["id"], 2)

    def test_unknown_op_names_the_known_ones(self):
        with self.assertRaisesRegex(AgentError, "unknown op 'dance'.*ping run put get"):
            self.agent.call("dance")
        self.assert_alive()

    def test_wrong_json_is_an_error_with_the_place(self):
        wrong = ((b"{", 1), (b'{"id":1,}', 9), (b"[1]", None), (b'"x"', None), (b"\xff\xfe", 0), (b"{}{}", 2))
        for line, place in wrong:
            with self.subTest(line):
                self.send_raw(line + b"\n")
                answer = self.next_object()
                self.assertIsNone(answer["id"])
                self.assertIn("not a JSON object", answer["error"])
                if place is not None:
                    self.assertIn(f"byte {place}", answer["error"])
        self.assert_alive()

    def test_deep_nesting_is_an_error(self):
        self.send_raw(b"[" * 100_000 + b"\n")
        self.assertIn("error", self.next_object())
        self.assert_alive()

    def test_missing_or_odd_arguments_are_errors(self):
        for request in (
            {},
            {"op": 5},
            {"op": "run"},
            {"op": "run", "argv": []},
            {"op": "run", "argv": ["echo", 5]},
            {"op": "run", "argv": "echo"},
            {"op": "run", "shell": "cat", "stdin": "***"},
            {"op": "put"},
            {"op": "put", "path": self.path("x")},
            {"op": "put", "path": self.path("x"), "data": "abc"},
            {"op": "put", "path": self.path("x"), "data": "", "mode": "rw"},
            {"op": "put", "path": self.path("x"), "data": "", "mode": 4096},
            {"op": "put", "path": self.path("x"), "fw_cfg": "opt/../../etc/passwd"},
            {"op": "put", "path": self.path("x"), "fw_cfg": "etc/acpi/tables"},
            {"op": "get"},
            {"op": "get", "path": "/etc/passwd", "offset": -1},
            {"op": "get", "path": "/etc/passwd", "length": 1.5},
            {"op": "stat"},
            {"op": "sha256"},
        ):
            with self.subTest(request):
                self.send_raw(json.dumps({"id": 3, **request}).encode() + b"\n")
                answer = self.next_object()
                self.assertEqual(answer["id"], 3)
                self.assertIn("error", answer)
        self.assert_alive()

    def test_line_over_the_limit_is_an_error_and_the_next_one_works(self):
        self.send_raw(b'{"id":1,"op":"ping","x":"' + b"a" * (1 << 20) + b'"}\n')
        answer = self.next_object()
        self.assertIn("longer than 1048576", answer["error"])
        self.assert_alive()

    def test_line_at_the_limit_works(self):
        line = b'{"id":1,"op":"ping","x":"'
        self.send_raw(line + b"a" * ((1 << 20) - len(line) - 2) + b'"}\n')
        self.assertEqual(self.next_object(), {"id": 1, "version": 1})

    def test_random_bytes_do_not_kill_it(self):
        for _ in range(20):
            self.send_raw(os.urandom(4096))
        self.send_raw(b"\n")
        deadline = time.monotonic() + 10
        while True:  # pass over the errors of the noise
            try:
                self.assert_alive()
                break
            except AgentTimeout:
                self.assertLess(time.monotonic(), deadline)

    # --- run -------------------------------------------------------------------------------------------------------

    def test_run_gives_status_and_both_streams(self):
        answer = self.agent.run("echo out; echo err >&2; exit 3")
        self.assertEqual((answer["status"], answer["stdout"], answer["stderr"]), (3, "out\n", "err\n"))
        self.assertNotIn("truncated", answer)

    def test_run_argv_is_not_seen_by_a_shell(self):
        self.assertEqual(self.agent.run(["printf", "%s|", "a b", "$HOME"])["stdout"], "a b|$HOME|")

    def test_run_signal_is_128_and_its_number(self):
        self.assertEqual(self.agent.run("kill -TERM $$")["status"], 128 + 15)

    def test_run_of_nothing_is_an_error(self):
        with self.assertRaisesRegex(AgentError, "No such file"):
            self.agent.run(["/does/not/exist"])

    def test_run_stdin(self):
        data = bytes(range(256)) * 1000
        answer = self.agent.run("sha256sum", stdin=data)
        self.assertEqual(answer["stdout"].split()[0], hashlib.sha256(data).hexdigest())
        self.assertEqual(self.agent.run("cat")["stdout"], "")

    def test_run_output_that_is_not_text(self):
        self.assertEqual(self.agent.run(r"printf '\377\0x'; echo e >&2")["stdout"], b"\xff\0x")
        self.assertEqual(self.agent.run("printf 'gr\u00fc\u00df \U0001f427'")["stdout"], "gr\u00fc\u00df \U0001f427")

    def test_run_output_over_the_limit_is_cut_and_the_command_goes_on(self):
        answer = self.agent.run("head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2")
        self.assertEqual(len(answer["stdout"]), 256 * 1024)
        self.assertTrue(answer["truncated"])
        self.assertEqual(answer["stderr"], "end\n")

    def test_run_timeout_kills_the_whole_group(self):
        mark = self.path("mark")
        begin = time.monotonic()
        answer = self.agent.call("run", shell=f"(sleep 2; touch {mark}) & echo started; sleep 60", timeout_ms=300)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual((answer["status"], answer["timed_out"], answer["stdout"]), (137, True, "started\n"))
        time.sleep(2)
        self.assertFalse(os.path.exists(mark))

    def test_run_does_not_wait_for_what_stays_in_the_background(self):
        begin = time.monotonic()
        self.assertEqual(self.agent.run("sleep 30 & echo $!")["status"], 0)
        self.assertLess(time.monotonic() - begin, 5)

    def test_other_requests_are_answered_while_a_command_runs(self):
        self.send_raw(b'{"id":"slow","op":"run","shell":"sleep 1; echo done"}\n')
        begin = time.monotonic()
        self.assert_alive()
        self.assertEqual(self.agent.run("echo quick")["stdout"], "quick\n")
        self.assertLess(time.monotonic() - begin, 0.9)
        self.assertEqual(self.next_object()["id"], "slow")

    def test_too_many_commands_at_once_is_an_error(self):
        for number in range(17):
            self.send_raw(json.dumps({"id": number, "op": "run", "shell": "sleep 1"}).encode() + b"\n")
        answers = [self.next_object() for _ in range(17)]
        self.assertEqual([(a["id"], "error" in a) for a in answers][0], (16, True))
        self.assertEqual({a["id"] for a in answers}, set(range(17)))

    # --- files -----------------------------------------------------------------------------------------------------

    def test_put_get_round_trip_in_pieces(self):
        data = os.urandom(700_001)
        self.agent.put(self.path("file"), data, mode=0o751)
        with open(self.path("file"), "rb") as file:
            self.assertEqual(file.read(), data)
        self.assertEqual(self.agent.get(self.path("file")), data)
        answer = self.agent.call("stat", path=self.path("file"))
        self.assertEqual((answer["type"], answer["size"], answer["mode"]), ("file", len(data), 0o751))
        answer = self.agent.call("sha256", path=self.path("file"))
        self.assertEqual(answer["sha256"], hashlib.sha256(data).hexdigest())
        self.assertEqual(answer["size"], len(data))

    def test_sha256_of_nothing(self):
        self.agent.put(self.path("empty"), b"")
        self.assertEqual(self.agent.call("sha256", path=self.path("empty"))["sha256"], hashlib.sha256(b"").hexdigest())
        self.assertEqual(self.agent.get(self.path("empty")), b"")

    def test_base64_of_all_lengths(self):
        for length in range(8):
            data = bytes(range(250, 250 + min(length, 6))) + b"z" * max(0, length - 6)
            self.agent.put(self.path("short"), data)
            self.assertEqual(self.agent.get(self.path("short")), data)
        for wrong in ("A", "AA", "AAA", "=AAA", "A===", "AA=A", "A A=", "AAA\u00e9"):
            with self.subTest(wrong), self.assertRaises(AgentError):
                self.agent.call("put", path=self.path("short"), data=wrong)

    def test_get_offset_and_length(self):
        self.agent.put(self.path("file"), b"0123456789")
        answer = self.agent.call("get", path=self.path("file"), offset=4, length=3)
        self.assertEqual((base64.b64decode(answer["data"]), answer["size"], answer["eof"]), (b"456", 10, False))
        answer = self.agent.call("get", path=self.path("file"), offset=50)
        self.assertEqual((answer["data"], answer["eof"]), ("", True))

    def test_get_of_a_proc_file(self):
        self.assertIn(b"Linux version", self.agent.get("/proc/version"))

    def test_file_errors_name_the_path(self):
        for op, args in (("get", {}), ("stat", {}), ("sha256", {}), ("put", {"data": ""})):
            with self.subTest(op), self.assertRaisesRegex(AgentError, "/no/such/file: No such file"):
                self.agent.call(op, path="/no/such/file", **args)
        with self.assertRaisesRegex(AgentError, "directory"):
            self.agent.call("get", path="/")

    def test_put_from_fw_cfg(self):
        answer = self.agent.call("put", path=self.path("blob"), fw_cfg="opt/minivmm/blob", mode=0o700)
        self.assertEqual(answer["size"], len(self.blob))
        self.assertEqual(self.agent.get(self.path("blob")), self.blob)
        with self.assertRaisesRegex(AgentError, "No such file"):
            self.agent.call("put", path=self.path("blob"), fw_cfg="opt/minivmm/other")

    # --- power -----------------------------------------------------------------------------------------------------

    def test_poweroff_and_reboot_answer_first(self):
        self.assertIn("id", self.agent.call("poweroff"))
        self.assertEqual(self.process.wait(5), 0)

    def test_reboot(self):
        self.assertIn("id", self.agent.call("reboot"))
        self.assertEqual(self.process.wait(5), 3)


class PortTest(unittest.TestCase):
    def test_client_says_that_the_machine_is_gone(self):
        ours, theirs = socket.socketpair()
        theirs.close()
        with Agent(ours.detach()) as agent, self.assertRaises(AgentGone):
            agent.call("ping", 1)

    def test_client_takes_an_answer_for_ready(self):
        """Who connects late has missed the agent's first words."""
        ours, theirs = socket.socketpair()
        theirs.sendall(b'half a line\n{"id":1,"version":1}\n')
        with Agent(ours.detach()) as agent, theirs:
            agent.wait_ready(5)
            self.assertEqual(theirs.recv(100), b'\n{"id": 1, "op": "ping"}\n')

    def test_client_does_not_take_an_echo_for_an_answer(self):
        ours, theirs = socket.socketpair()
        theirs.sendall(b'{"id": 1, "op": "ping"}\r\n{"id":1,"version":1}\n')
        with Agent(ours.detach()) as agent, theirs:
            self.assertEqual(agent.call("ping", 5), {"id": 1, "version": 1})

    def test_client_says_that_nobody_listens(self):
        with self.assertRaisesRegex(AgentTimeout, "nobody listens"):
            Agent.connect("/nonexistent/socket", timeout=0.1)


if __name__ == "__main__":
    unittest.main()
