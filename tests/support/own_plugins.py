"""The backbone and the method that CONTRIBUTING walks through, as files of somebody who has no checkout."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write_plugins(folder: Path) -> list[Path]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name in (("backbones", "cam_vit"), ("methods", "patch_classes")):
        (code,) = re.findall(rf"`aream/{kind}/{name}\.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
        path = folder / f"{name}.py"
        path.write_text(f'{code}\n\nKIND = "{kind}"\n')
        written.append(path)
    return written
