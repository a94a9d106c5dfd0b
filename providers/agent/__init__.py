"""The program that runs on the box, and what it shares with the client: frames, their JSON, the manifest.

Python 3.8 and its standard library alone: the client copies these files to the box as they are, where `start.py` runs
them with the box's own Python. Nothing here imports the rest of rentroll. Each run begins with the start of this
program, so nothing slow to import (json, signal, socket, typing, re, enum) is imported on the way to a job.
"""
