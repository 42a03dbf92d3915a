"""What the machine that the tests run on can do; a test that needs more says why it is skipped."""

import contextlib
import subprocess

import pytest


def works(*command: str) -> bool:
    """Whether this machine can run a command."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, check=True, timeout=20).returncode == 0
    return False


needs_mount = pytest.mark.skipif(
    not works("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
    reason="a small file system can only be mounted by root (unshare, mount)",
)
