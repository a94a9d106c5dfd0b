"""What of a local working tree is to be copied, and why.

`scan.scan` gives the tree, `guard.guard` judges it before anything is paid for, `explain.explain` names the rule that
decides on one path. Nothing here knows of a box.
"""
