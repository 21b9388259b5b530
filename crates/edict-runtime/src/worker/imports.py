"""One policy's worker: a template that has imported the policy and forks a child for each run.

Started by the launcher inside the sandbox, with the control socket as file descriptor 3. Standard library
only: it runs on whatever Python a policy's environment has. Nothing here protects one policy from another:
a hostile module shares this process and can change all of it. What protects is the sandbox that the
launcher has put around it, and the host, which believes nothing that comes from here.

The files of this folder are one program: the host joins them, this one first and `main.py` last, and compiles
the whole, since a policy's interpreter reads one file faster, and with less memory, than a package. So they
share one namespace and import nothing from each other.

Control socket (one packet per message, text):
  host -> template   the configuration (JSON, once), then words: F<n> fork child n, D<n> child n is done with,
                     Q<n> end child n and say how it ended
  template -> host   L<json> the policy is loaded, X<json> it cannot be, E<n> <status> <cpu ms> how child n ended,
                     N<n> <errno> child n could not be made
  child -> host      H<n>, with three descriptors: its own socket, its stdout, its stderr

A child's own socket carries frames: kind (1 byte), length (4 bytes, little-endian), JSON.
  host -> child      R run this, C the answer to a context operation
  child -> host      D done, E failed, X a context operation, L a log record

A function's replica is a template that never forks. It has a second socket for calls, so that they can be sent
ahead while the policy, or a thread of it, talks to its context on the first:
  host -> replica    B make the instance, R call it, M manage it
  replica -> host    D done, E failed; one for each, in order
"""

import gc
import os
import sys

import _socket
import _thread
import ctypes
import json
import resource
from _collections_abc import MutableMapping

CONTROL = 3
MESSAGE_LIMIT = 8 << 10
FRAMES_LIMIT = 24  # frames kept from each end of a long traceback
PR_SET_PDEATHSIG, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 22, 2
CLONE_NEWUSER, CLONE_NEWPID, SIGCHLD, SIGKILL = 0x10000000, 0x20000000, 17, 9

# PyDLL keeps the GIL: a clone between releasing and taking it again would copy a GIL without an owner.
LIBC = ctypes.PyDLL(None, use_errno=True)
# Looked up once: every child would do it again, on pages that it has to copy for that.
BEFORE_FORK, AFTER_FORK_PARENT, AFTER_FORK_CHILD = (
    getattr(ctypes.pythonapi, "PyOS_" + name) for name in ("BeforeFork", "AfterFork_Parent", "AfterFork_Child")
)
SYSCALL, CAPSET = LIBC.syscall, LIBC.capset
# Version 3 for the caller itself; no capabilities.
CAPABILITIES = ctypes.byref(ctypes.c_uint64(0x20080522)), ctypes.byref((ctypes.c_uint32 * 6)())
encode_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
decode_text = json.JSONDecoder().decode
scan_text = json.JSONDecoder().scan_once  # for text that is known to be one JSON value and nothing else
