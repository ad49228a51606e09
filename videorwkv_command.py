"""What the command `videorwkv` starts.

It lies beside the package because importing anything of that takes PyTorch's second or two: Ctrl-C
ends the command then as it does later.
"""

from __future__ import annotations

import sys


def main() -> int:
    """`videorwkv.cli.main`; 130 where Ctrl-C comes before it."""
    try:
        from videorwkv.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("videorwkv: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
