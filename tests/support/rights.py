"""Processes without root's right to read, write and search everything, so that a test of rights can fail as root."""

import ctypes
import os

_DROP_FROM_BOUNDING_SET = 24  # PR_CAPBSET_DROP
_RIGHTS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def give_up_root_rights() -> None:
    """For `preexec_fn`: the program that is executed next has the rights of the files' modes only."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for right in _RIGHTS:
        if libc.prctl(_DROP_FROM_BOUNDING_SET, right, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the right cannot be given up")
