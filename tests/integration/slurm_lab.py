"""A real Slurm on one machine: a controller and two nodes, each in a network and a host-name namespace of its own.

Needs root, and Debian's slurmctld, slurmd, munge and iproute2. The nodes see the same files, as on a cluster with a
shared filesystem, but not each other's loopback. Nothing of it is reached from outside: its network is a bridge
without a way out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "ip", "nsenter", "unshare")
START_S = 180
NODES = ("n1", "n2")
CONTROLLER = "ctl"
HOSTS = (CONTROLLER, *NODES)
CPUS = 2
GPUS = 2

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={controller}({controller_address})
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=20
SchedulerParameters=sched_min_interval=500000,bf_interval=5
SchedulerTimeSlice=5
# A job of a partition with a higher tier takes the nodes; the job it takes them from hears so in its batch shell.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
{nodes}
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace} State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


class SlurmLab:
    def __init__(self, folder: Path, grace_s: int = 90) -> None:
        self.folder, self.grace_s = folder, grace_s
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = f"sl{os.getpid() % 100000}"
        self.network = f"10.{120 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def address(self, node: str) -> str:
        return f"{self.network}.{10 + HOSTS.index(node)}"

    def namespace(self, host: str) -> str:
        return f"{self.mark}-{host}"

    def start(self) -> None:
        self._connect()
        self._munge()
        self._configure()
        conf = str(self.folder / "slurm.conf")
        self._daemon("slurmctld", self.host_command(CONTROLLER, "slurmctld", "-D", "-c", "-f", conf))
        for node in NODES:
            self._daemon(f"slurmd-{node}", self.host_command(node, "slurmd", "-D", "-f", conf, "-N", node))
        self._wait_for(lambda: self.run("sinfo", "-h", "-o", "%T %D").split() == ["idle", str(len(NODES))], "nodes")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--user", "root")
            self._wait_for(lambda: not self.run("squeue", "-h"), "jobs to end")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=240)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", self.namespace(host)], capture_output=True)
        subprocess.run(["ip", "link", "del", self.mark], capture_output=True)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=START_S, check=False
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def inside(self, host: str, *command: str) -> str:
        """The output of a command in a host's network."""
        return self.run("nsenter", f"--net=/run/netns/{self.namespace(host)}", *command)

    def job(self, job_id: str) -> dict[str, str]:
        """What the controller knows of a job."""
        text = self.run("scontrol", "show", "job", "--oneliner", job_id)
        return dict(part.partition("=")[::2] for part in text.split() if "=" in part)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def _connect(self) -> None:
        self.run("ip", "link", "add", self.mark, "type", "bridge")
        self.run("ip", "address", "add", f"{self.network}.1/24", "dev", self.mark)
        self.run("ip", "link", "set", self.mark, "up")
        for host in HOSTS:
            space, cable = self.namespace(host), f"{self.mark}{host}"
            self.run("ip", "netns", "add", space)
            self.run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            self.run("ip", "link", "set", cable, "master", self.mark, "up")
            self.inside(host, "ip", "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self.inside(host, "ip", "link", "set", device, "up")

    def _munge(self) -> None:
        """An authentication service with a key of its own, beside whatever the machine runs."""
        place = self.folder / "munge"
        place.mkdir(mode=0o755)
        key = place / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        self._daemon("munged", [
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={place}/socket",
            f"--pid-file={place}/pid", f"--seed-file={place}/seed", f"--log-file={place}/log",
        ])  # fmt: skip
        self._wait_for((place / "socket").exists, "munged")

    def _configure(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        for number in range(GPUS):  # plain files would be counted, but never shown to a job
            os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={node} NodeAddr={self.address(node)} CPUs={CPUS}"
            f" RealMemory=16000 Gres=gpu:{GPUS} State=UNKNOWN"
            for node in NODES
        )
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                controller=CONTROLLER, controller_address=self.address(CONTROLLER), folder=self.folder, nodes=nodes,
                grace=self.grace_s,
            )
        )  # fmt: skip
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-2] Name=gpu Count={GPUS} File={self.folder}/gpu[0-{GPUS - 1}] Flags=nvidia_gpu_env\n"
        )

    def host_command(self, host: str, *command: str) -> list[str]:
        """A host name of its own too: else two processes of one number on two nodes would be taken for one."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        return ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *named, *command]

    def _daemon(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )

    def _wait_for(self, condition, what: str) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.SubprocessError):
                if condition():
                    return
            time.sleep(0.2)
        raise AssertionError(f"waited {START_S} s for {what}:\n{self.logs()}")


@contextlib.contextmanager
def slurm_lab(folder: Path, **options: int) -> Iterator[SlurmLab]:
    found = SlurmLab(folder, **options)
    try:
        found.start()
        yield found
    finally:
        found.stop()
