"""A rank above the first of one stage: started by ``workers/ranks/launcher.py``, which sends it what to do.

Exit status: 0 done, or ended by an error that the first rank knows of and tells; 1 otherwise.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from pathlib import Path

import torch

from aream import discover
from workers import stages
from workers.plugins import set_up
from workers.processes.background import begin
from workers.ranks.launcher import RankJob
from workers.ranks.process_group import ProcessRanks, RankLost, SharedCheckpoint
from workers.stage import StageContext


def main(ready: int) -> int:
    set_up()
    job: RankJob = pickle.load(sys.stdin.buffer)
    begin("parent", _end_with_parent)
    if job.runtime.gpu:
        torch.cuda.set_device(job.rank)  # before anything looks at a GPU: a context on another one would stay
    job.runtime.prepare()
    module = discover.load(stages, job.stage)
    os.write(ready, b"1")
    os.close(ready)
    ranks = ProcessRanks(job.rank, job.size, job.rendezvous, job.runtime.gpu)
    context = StageContext(
        job.runtime,
        SharedCheckpoint(ranks, None),
        report=lambda row: None,
        stop=lambda: ranks.agree(False),
        ranks=ranks,
    )
    try:
        with tempfile.TemporaryDirectory() as out, ranks.together():
            module.run(job.config, job.inputs, Path(out), context)
        ranks.meet()
    except RankLost as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        if error is not ranks.known:
            raise
    finally:
        ranks.close()
    return 0


def _end_with_parent() -> None:
    """The parent holds the other end of standard input for as long as it lives.

    Read past Python's buffer: one that is being read is locked in processes forked meanwhile, which close it first.
    """
    try:
        while os.read(sys.stdin.fileno(), 1):
            pass
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
