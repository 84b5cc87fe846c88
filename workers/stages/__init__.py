"""One file a stage: ``VERSION``, ``Config`` and ``run(config, inputs, out, context) -> metrics``.

``run`` reads its Config and the folders of its inputs, writes under ``out`` only, and returns scalars. Raise
``VERSION`` whenever the same Config would give other bytes.
"""
