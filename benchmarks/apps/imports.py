"""Print the processor time of importing a module: ``imports MODULE``, in seconds."""

import importlib
import sys
import time

began = time.process_time()
importlib.import_module(sys.argv[1])
print(time.process_time() - began)
