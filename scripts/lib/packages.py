"""Programs that a script needs: installed where we may, named where we may not."""
import hashlib
import os
import shutil
import subprocess
import sys


def ensure(programs, report):
    """programs: {program: Debian package}. Returns None, or one line that says what to install."""
    missing = sorted({package for program, package in programs.items() if not _found(program)})
    if not missing:
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"install these packages first (Debian's names): {' '.join(missing)}"
    with report.step(f"install {' '.join(missing)} (apt-get)"):
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
        install = [*apt, "install", "--no-install-recommends", "-y", *missing]
        quiet = {"stdout": subprocess.DEVNULL, "env": env}
        if subprocess.run(install, stderr=subprocess.DEVNULL, **quiet).returncode:
            subprocess.run([*apt, "update"], **quiet)
            subprocess.run(install, **quiet)
    missing = sorted({package for program, package in programs.items() if not _found(program)})
    return f"could not install: {' '.join(missing)}" if missing else None


def _found(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def python(requirements, report):
    """Python packages from PyPI, in a virtual environment of the cache: adds them to this process's path.

    requirements: as pip wants them, with exact versions. Returns None, or one line that says what to do.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:16]
    folder = os.path.join(home, "minivmm", f"python-{name}")
    if not os.path.isdir(folder):
        making = f"{folder}.{os.getpid()}"
        with report.step(f"install {' '.join(requirements)} (pip)"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", making]
            done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(making, ignore_errors=True)
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            return f"could not install {' '.join(requirements)}: {last}"
        try:
            os.rename(making, folder)
        except OSError:  # somebody else was quicker
            shutil.rmtree(making, ignore_errors=True)
    sys.path.insert(0, folder)
    return None
