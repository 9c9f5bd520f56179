"""A network namespace of our own, with or without root: the script runs again inside it."""
import atexit
import ctypes
import os
import shutil
import sys

MARK = "MINIVMM_IN_NETNS"


def entered():
    """Whether this process is the inner run of enter()."""
    return os.environ.get(MARK) == str(os.getpid())


def enter(script):
    """Re-executes `script` (a path) with its arguments inside a new network namespace, once.

    Root uses `unshare --net`; others a user namespace in which they are root. The namespace lives as long as
    the processes in it, so nothing is left behind, whatever kills us.
    """
    if entered():
        _loopback_up()
        return
    if not shutil.which("unshare"):
        sys.exit(f"{os.path.basename(script)}: needs the program `unshare` (Debian package util-linux)")
    how = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    # exec keeps the pid, which is how the inner run recognises itself.
    os.environ[MARK] = str(os.getpid())
    # What is to be done at exit, such as removing temporary folders, nobody would do after it.
    atexit._run_exitfuncs()
    try:
        os.execvp("unshare", ["unshare", *how, "--", sys.executable, script, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"{os.path.basename(script)}: cannot start unshare: {error}")


def _loopback_up():
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        name = struct.pack("16sh", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(s, 0x8914, name)  # SIOCSIFFLAGS
    # Quick ARP retries and no IPv6 chatter: inside our own namespace only. Both are niceties.
    for path, value in (
        ("/proc/sys/net/ipv4/neigh/default/retrans_time_ms", "50"),
        ("/proc/sys/net/ipv4/neigh/default/mcast_solicit", "200"),
        ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
    ):
        try:
            with open(path, "w") as f:
                f.write(value)
        except OSError:
            pass


def interfaces():
    """Names of the interfaces in our own namespace (sysfs would show those of whoever mounted it)."""
    with open("/proc/net/dev") as f:
        return {line.split(":")[0].strip() for line in f.readlines()[2:]}


def die_with_parent():
    """For subprocess's preexec_fn: the child gets SIGKILL when this script dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(1, 9)
