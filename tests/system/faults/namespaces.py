"""Two network namespaces, connected by a virtual cable that a test can cut."""

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NEW_NETWORK, _NEW_MOUNTS = 0x40000000, 0x00020000


@dataclass(frozen=True)
class Machine:
    """A network and mount namespace, held open by a sleeping process, and its address."""

    pid: int
    address: str

    def run(self, *command: str) -> None:
        """Run a command in the namespace; must succeed."""
        subprocess.run(
            command_in_namespace(self.pid, *command), check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    def disconnect(self) -> None:
        """Drop all packets in both directions."""
        for chain in ("INPUT", "OUTPUT"):
            self.run("iptables", "--wait", "-I", chain, "-i" if chain == "INPUT" else "-o", "cable", "-j", "DROP")

    def drop_packets(self, share: float) -> None:
        """Drop this share of packets, 0 to 1, in each direction."""
        for chain in ("INPUT", "OUTPUT"):
            words = ["-i" if chain == "INPUT" else "-o", "cable", "-m", "statistic", "--mode", "random"]
            self.run("iptables", "--wait", "-I", chain, *words, "--probability", str(share), "-j", "DROP")

    def reconnect(self) -> None:
        """Remove all faults."""
        self.run("iptables", "--wait", "-F")


def command_in_namespace(pid: int, *command: str, folder: Path = Path("/")) -> list[str]:
    """Return a command line that runs `command` in `folder`, in the network and mount namespace of a process."""
    namespaces = (f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt")
    return ["nsenter", *namespaces, f"--wd={folder}", "--", *command]


@contextmanager
def two_machines(hosts: Path | None = None) -> Iterator[tuple[Machine, Machine]]:
    """Yield two connected namespaces; `hosts` becomes the hosts file of both."""
    with contextlib.ExitStack() as stack:
        sleepers = []
        for _ in range(2):
            sleeper = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "3600"])
            stack.callback(sleeper.wait)
            stack.callback(sleeper.kill)
            sleepers.append(sleeper.pid)
        ours = os.readlink("/proc/self/ns/net")
        for pid in sleepers:
            while os.readlink(f"/proc/{pid}/ns/net") == ours:
                os.sched_yield()
        machines = [Machine(pid, f"10.99.0.{n}") for n, pid in enumerate(sleepers, 1)]
        near, far = machines
        near.run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(far.pid))
        for machine in machines:
            machine.run("ip", "addr", "add", f"{machine.address}/24", "dev", "cable")
            machine.run("ip", "link", "set", "cable", "up")
            machine.run("ip", "link", "set", "lo", "up")
            if hosts is not None:
                machine.run("mount", "--bind", str(hosts), "/etc/hosts")
        yield near, far


def enter_namespace(pid: int) -> None:
    """Move this process, which must have one thread, into the network and mount namespace of another one.

    Raises:
        OSError: if setns fails.
    """
    folder = os.getcwd()
    enter_network(pid)
    _enter(pid, "mnt", _NEW_MOUNTS)
    # Entering a mount namespace moves the process to its root folder.
    os.chdir(folder)


def enter_network(pid: int) -> None:
    """Move this thread, but no other one, into the network namespace of a process.

    Raises:
        OSError: if setns fails.
    """
    _enter(pid, "net", _NEW_NETWORK)


def _enter(pid: int, name: str, kind: int) -> None:
    with open(f"/proc/{pid}/ns/{name}", "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), kind):
            raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    # python namespaces.py PID SCRIPT ARGUMENTS...: runs a Python script in the namespaces of a process.
    enter_namespace(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
