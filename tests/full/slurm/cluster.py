"""A SLURM of one machine, for root: `with cluster(folder) as environment:` munge, slurmctld and slurmd until the block ends.

On Debian: apt-get install -y slurm-wlm munge
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CONF = """
ClusterName=lmxtest
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/ctl
SlurmdSpoolDir={folder}/d
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
CommunicationParameters=NoInAddrAny
SlurmctldPort={port}
SlurmdPort={next}
KillWait=120
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there cannot be one here; nothing where there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path()) is None]
    if lacking:
        return f"SLURM is not installed ({', '.join(lacking)}): apt-get install -y slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmctld and slurmd need root here"


def path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """-> the environment of a user of it"""
    for name in ("ctl", "d", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o755)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    port = free_port()
    facts = {"host": socket.gethostname().partition(".")[0], "folder": folder, "port": port, "next": port + 1}
    (folder / "slurm.conf").write_text(CONF.format(**facts, cpus=os.cpu_count()))
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path()}
    munge = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge/socket",
        f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed",
    ]  # fmt: skip
    daemons = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", facts["host"]]):
            with (folder / f"{command[0]}.out").open("wb") as out:
                daemons.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            time.sleep(2)
        ready(environment)
        yield environment
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, check=False)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def ready(environment: dict[str, str], patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise RuntimeError(f"no idle node: {told.stdout} {told.stderr}")


def free_port() -> int:
    """Two in a row, most likely."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
