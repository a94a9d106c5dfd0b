"""What every test starts from, however the run was started."""

import signal

# A shell ignores SIGINT in what it starts in the background, nohup ignores SIGHUP, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
