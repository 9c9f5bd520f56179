"""Programs that a script needs: installed where we may, named where we may not."""
import os
import shutil
import subprocess


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
