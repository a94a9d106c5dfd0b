"""A working tree to copy: a git repository of many small files, the same bytes each time."""

import random
import subprocess
from pathlib import Path

FILES = 5_000
BYTES = 45_000_000
CHANGED = 10
FOLDERS = 100
SEED = 20260920


class Corpus:
    """Made below `root`; `change` rewrites ten files with as many bytes as they had."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._random = random.Random(SEED)
        sizes = [self._random.randint(200, 2 * BYTES // FILES - 200) for _ in range(FILES)]
        self._paths = [root / f"part{number % FOLDERS:02}" / f"file{number:04}.py" for number in range(FILES)]
        for path, size in zip(self._paths, sizes, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._random.randbytes(size))
        for words in (["init", "-q"], ["add", "-A"]):
            subprocess.run(["git", *words], cwd=root, check=True)

    def change(self) -> None:
        """Other bytes in ten files."""
        for path in self._random.sample(self._paths, CHANGED):
            path.write_bytes(self._random.randbytes(path.stat().st_size))
