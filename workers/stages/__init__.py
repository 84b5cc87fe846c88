"""One file a stage: ``VERSION``, ``COMPUTES_ON`` (``workers/processes/hardware.py``), ``METRICS``, ``Config`` and
``run(config, inputs, out, context) -> metrics``.

``run`` reads its Config and the folders of its inputs, writes under ``out`` only, and returns scalars. Raise
``VERSION`` whenever the same Config would give other bytes.

``METRICS`` names what ``run`` returns and reports (``workers/metric.py``).

A stage may run several at once: ``run_together(works, context)`` yields what ``run`` of each work returns, or the
exception that it alone raises, in the order of ``works``, each with the bytes that ``run`` gives. It is handed stages
for which ``shared(stage)`` is equal, and not None, and all they read is stored. Each reports its rows and keeps its
checkpoint by its work; those of the context are the first one's.

A stage that also holds ``Options`` and ``analysis`` is an analysis, chosen by its name under ``analyses`` in a sweep
file: ``workers/analysis.py``.
"""
