# SPDX-License-Identifier: Apache-2.0
"""Opens all files below the working directory and holds them, until one cannot be opened."""

import os
import time

held = []
try:
    for directory, _, names in os.walk("."):
        for name in names:
            held.append(open(os.path.join(directory, name), "rb"))
except OSError as error:
    print(error.strerror, flush=True)
    time.sleep(600)
