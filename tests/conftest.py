"""What every test starts from, however the run was started."""

import signal

# Under nohup SIGHUP is ignored, and every process that a test starts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
