#!/usr/bin/env python3
"""scripts/run: one command in the guest, its output as it comes, its exit status; as nobody, without a tap."""
import os
import signal
import subprocess
import tempfile
import time

import harness
from harness import want

ARGS = harness.arguments(__doc__)
SCRIPT = os.path.join(harness.REPO, "scripts", "run")
LIMIT = 300


def run(*words, **more):
    line = [SCRIPT, "--no-build", *(["--accel", ARGS.accel] if ARGS.accel else []), *words]
    return subprocess.run(line, capture_output=True, timeout=LIMIT, **more)


def output_and_status_are_the_command_s():
    done = run("echo to-$((1+1))-out; echo to-err >&2; exit 7", stdin=subprocess.DEVNULL)
    want((done.returncode, done.stdout, done.stderr) == (7, b"to-2-out\n", b"to-err\n"), str(done))


def the_network_works_without_any_right():
    done = run("--", "ping", "-c", "2", "10.0.2.2", stdin=subprocess.DEVNULL)
    want(done.returncode == 0 and b" 0% packet loss" in done.stdout, str(done))


def standard_input_and_binary_output_pass_unchanged():
    data = os.urandom(700_000)
    done = run("cat", input=data)
    want(done.returncode == 0 and done.stdout == data, f"{done.returncode}: {len(done.stdout)} bytes; {done.stderr}")


def files_go_in_and_come_out():
    with tempfile.TemporaryDirectory() as folder:
        script, out = os.path.join(folder, "tool"), os.path.join(folder, "out")
        with open(script, "w") as f:
            f.write("#!/bin/sh\necho args $* > /tmp/answer\n")
        os.chmod(script, 0o755)
        done = run("--put", script, "--get", f"/tmp/answer:{out}", "--", "/tmp/tool", "a b", "c", stdin=subprocess.DEVNULL)
        want(done.returncode == 0 and open(out).read() == "args a b c\n", str(done))


def started(line, folder):
    """The script with `folder` for temporary files, once its command has written its first line."""
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": folder})
    want(process.stdout.readline() == b"first\n", "the first line")
    return process


def output_comes_while_the_command_runs_and_sigterm_ends_all():
    line = [SCRIPT, "--no-build", *(["--accel", ARGS.accel] if ARGS.accel else []), "echo first; sleep 1000"]
    with tempfile.TemporaryDirectory() as folder:
        with started(line, folder) as process:
            process.send_signal(signal.SIGTERM)
            want(process.wait(60) == 128 + signal.SIGTERM, f"status {process.returncode}")
        want(not os.listdir(folder), f"left behind: {os.listdir(folder)}")


def sigkill_leaves_no_process_and_no_file():
    line = [SCRIPT, "--no-build", *(["--accel", ARGS.accel] if ARGS.accel else []), "echo first; sleep 1000"]
    with tempfile.TemporaryDirectory() as folder:
        with started(line, folder) as process:
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as f:
                children = f.read().split()
            want(len(children) == 1, f"children: {children}")
            process.kill()
            process.wait()
        end = time.monotonic() + 30
        while os.path.exists(f"/proc/{children[0]}") and time.monotonic() < end:
            time.sleep(0.05)
        want(not os.path.exists(f"/proc/{children[0]}"), "minivmm runs on")
        want(not os.listdir(folder), f"left behind: {os.listdir(folder)}")


def what_goes_wrong_has_its_status():
    with tempfile.TemporaryDirectory() as folder:
        done = run("--keep", os.path.join(folder, "kept"), "echo c > /proc/sysrq-trigger; sleep 50", stdin=subprocess.DEVNULL)
        want(done.returncode == 126 and b"panicked" in done.stderr, str(done))
        want(b"Kernel panic" in open(os.path.join(folder, "kept", "serial0.log"), "rb").read(), "serial0.log")
        for status, more in ((124, ["--timeout", "8", "sleep 100"]), (3, ["exit 3"])):
            kept = os.path.join(folder, f"kept-{status}")
            done = run("--keep", kept, *more, stdin=subprocess.DEVNULL)
            want(done.returncode == status and f"is in {kept}\n".encode() in done.stderr, str(done))
            want({"serial0.log", "result.json", "n0.pcapng"} <= set(os.listdir(kept)), str(os.listdir(kept)))
        done = run("--put", os.path.join(folder, "nowhere.ko"), "true", stdin=subprocess.DEVNULL)
        want(done.returncode == 125 and done.stderr.count(b"\n") == 1 and b"no such file" in done.stderr, str(done))
    done = run("--get", "/tmp/nothing", "exit 4", stdin=subprocess.DEVNULL)
    want(done.returncode == 4 and b"--get /tmp/nothing: " in done.stderr, str(done))
    done = run("--options", "-m lots", "true", stdin=subprocess.DEVNULL)
    want(done.returncode == 125 and b"-m lots" in done.stderr, str(done))
    done = run("kill -9 $$", stdin=subprocess.DEVNULL)
    want(done.returncode == 137, str(done))


if __name__ == "__main__":
    harness.main(__file__, [
        output_and_status_are_the_command_s, the_network_works_without_any_right,
        standard_input_and_binary_output_pass_unchanged, files_go_in_and_come_out,
        output_comes_while_the_command_runs_and_sigterm_ends_all, sigkill_leaves_no_process_and_no_file,
        what_goes_wrong_has_its_status,
    ])
