# A login shell (`bash -l`, as KubeRay may start one) sets PATH anew.
PATH=/opt/venv/bin:$PATH
