"""What all tests share."""

import signal

# A shell that starts this in the background has Ctrl-C ignored, and children inherit that; the tests of Ctrl-C
# need it as it is at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
